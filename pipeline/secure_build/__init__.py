"""From a Dockerfile in git to a contract that IBM's confidential container runtimes accept."""

__version__ = "0.1.0"
