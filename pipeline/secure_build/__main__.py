"""`python -m secure_build`"""

from secure_build.cli import main

raise SystemExit(main())
