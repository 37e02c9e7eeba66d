"""Git: which commit is built, whether the tree had other content, and clean exports of it.

Only this package touches git, and only to read. What is built are the raw blobs of the commit's
tree: no archive attributes, end-of-line conversion, smudge or LFS filters, and nothing of the
working tree. A repository on a server is fetched, one commit of it, into the work folder.

`repository` reads (with GitPython), `fetching` is the only part that talks to servers, with the
git command and nothing of the user's settings; `checkout` is what the steps see.
"""

from secure_build.source.checkout import Checkout
from secure_build.source.fetching import Login
from secure_build.source.opening import clone, open_source
from secure_build.source.repository import Entry, Repository

__all__ = ["Checkout", "Entry", "Login", "Repository", "clone", "open_source"]
