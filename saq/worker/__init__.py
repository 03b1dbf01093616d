"""Workers: claim jobs, run them, settle them."""

from saq.worker.options import Handler, Share
from saq.worker.process import check_health, start
from saq.worker.worker import Worker, logger

__all__ = ["Handler", "Share", "Worker", "check_health", "import_settings", "logger", "start"]


def import_settings(settings: str):  # type: ignore[no-untyped-def]
    """See ``saq.settings.import_settings``."""
    from saq.settings import import_settings as load

    return load(settings)
