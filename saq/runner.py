"""What the command line runs when it is given settings."""

from __future__ import annotations

import logging
import sys

from saq.errors import SaqError
from saq.settings import import_settings
from saq.worker.process import check_health, start
from saq.worker.supervisor import Supervisor
from saq.worker.worker import Worker, checkup

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
FORMAT = "%(asctime)s %(levelname)-7s %(message)s"


def configure_logging(verbose: int) -> None:
    """Log lines to the terminal: warnings, with 1 what happens, with 2 everything."""
    logging.basicConfig(level=LEVELS[min(verbose, 2)], format=FORMAT)


def run(
    settings: str,
    /,
    *,
    workers: int = 1,
    verbose: int = 0,
    web: bool = False,
    extra_web_settings: list[str] | None = None,
    port: int = 8080,
    host: str = "127.0.0.1",
    insecure: bool = False,
    metrics_port: int | None = None,
    metrics_host: str = "127.0.0.1",
    check: bool = False,
    quiet: bool = False,
) -> None:
    """Runs workers until they are told to stop; with ``check``, only looks whether there are any.

    Ends the process with an exit code where there is something to say by one.
    """
    if not quiet:
        configure_logging(verbose)
    try:
        if check:
            sys.exit(check_health(settings))
        if workers > 1:
            found = import_settings(settings)
            # What is wrong is said once, not by each process.
            Worker(**found)
            if metrics_port is not None:
                from saq.observe.server import check as check_ports

                check_ports(metrics_port, workers, metrics_host)
            grace = found.get("shutdown_grace_period_s") or 0
            served = (web, extra_web_settings, port, host, insecure, metrics_port, metrics_host)
            arguments = (settings, verbose, quiet, *served)
            sys.exit(Supervisor(workers, work, arguments, grace).run())
        start(settings, web, extra_web_settings, port, host, insecure, metrics_port, metrics_host)
    except KeyboardInterrupt:
        pass
    except SaqError as error:
        if verbose > 1:
            raise
        print(f"saq: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ValueError) else 1)


def work(
    index: int,
    settings: str,
    verbose: int,
    quiet: bool,
    web: bool,
    extra_web_settings: list[str] | None,
    port: int,
    host: str,
    insecure: bool,
    metrics_port: int | None,
    metrics_host: str,
) -> None:
    """One of several worker processes; the first serves the web page, and says how the server is set up. Each
    has a metrics port of its own: the first the one that was given, the next the one above, and so on."""
    if index > 0:
        checkup.setLevel(logging.ERROR)
    run(
        settings,
        verbose=verbose,
        quiet=quiet,
        web=web and index == 0,
        extra_web_settings=extra_web_settings,
        port=port,
        host=host,
        insecure=insecure,
        metrics_port=metrics_port + index if metrics_port else metrics_port,
        metrics_host=metrics_host,
    )
