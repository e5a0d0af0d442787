"""A Prefect server on loopback and the deployments it can start: `python -m flows.serve`, or `make ui`.

The server keeps its database in .prefect/, so that history survives a restart and nothing leaves the repository. Who
may ask it: flows/serving/server.py.
"""

import fcntl
import os
import signal
import sys
import warnings
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import yaml

from flows.serving import confine, pages, parameters, server, settings
from flows.serving.server import Access
from instdiff.files import value_faults
from instdiff.options import PORT, Parser

HOME = Path(".prefect")
ACCESS = HOME / "access"  # where the server is and its token, for the next `make ui` after a kill of this one
LOCK = HOME / "ui.lock"
HEARTBEAT = 30  # seconds between two signs of life of a run, the least that Prefect takes


def environment(access: Access) -> dict[str, str]:
    """What server and deployments share: one address, one database, no telemetry."""
    return access.environment | {
        "PREFECT_HOME": str(HOME.resolve()),
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",  # seconds until a run that was asked for is seen
        # Who holds a GPU is kept on the disk, so that a killed server does not take it for busy for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # runs of more than 90 days are forgotten
        "DVC_NO_ANALYTICS": "1",
        pages.ADDRESS: server.address(access.port + 1),
    }


@contextmanager
def alone() -> Iterator[None]:
    """Keep a second `make ui` out of this tree.

    Raises:
        RuntimeError: one is there; the sentence says where.
    """
    HOME.mkdir(exist_ok=True)
    with LOCK.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            there = last_access()
            where = f"already runs at {there.entrance}" if there else "another one is just starting"
            raise RuntimeError(f"make ui: {where}") from None
        yield


def last_access() -> Access | None:
    """The server that was started in this tree last, whether or not it still runs."""
    return Access(*ACCESS.read_text(encoding="utf-8").split()) if ACCESS.is_file() else None


def written(access: Access) -> None:
    """Keep where the server is; only this user may read it."""
    ACCESS.unlink(missing_ok=True)
    ACCESS.touch(mode=0o600)
    ACCESS.write_text(f"{access.address}\n{access.token}\n", encoding="utf-8")


def choose(port: int) -> tuple[Access, bool]:
    """The server that a kill of the last `make ui` left behind, or a new one to start; whether it runs already."""
    left = last_access()
    if left is not None and left.port == port and server.answers(left, "/api/admin/version"):
        return left, True
    return server.new(port), False


def check(wanted: settings.Settings) -> None:
    """Whether each deployment can run as it is written.

    Raises:
        ValueError: a deployment names what is not there.
    """
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, entry in wanted.deployments.items():
        try:
            parameters.composed(entry.experiment, entry.overrides, by_form=True)
            for target in entry.targets:
                if target.partition("@")[0] not in stages:
                    raise ValueError(f"{target}: no such stage{value_faults.suggestion(target, stages)}")
        except ValueError as error:
            raise ValueError(f"{settings.PATH}: {name}: {error}") from error


def deployments(wanted: settings.Settings) -> None:
    """Serve every deployment until interrupted; one run works in the tree, others say that they wait."""
    from prefect import serve  # reads its settings from the environment when imported
    from prefect.schedules import Cron

    from flows.pipeline import pipeline
    from flows.serving import gpus

    # Prefect 3.8 does not await it when it is asked to end, and ends all the same.
    warnings.filterwarnings("ignore", "coroutine 'Runner.astop' was never awaited", RuntimeWarning)
    gpus.create_limit()
    crash_dead_runs()
    served = []
    for name, entry in wanted.deployments.items():
        deployment = pipeline.to_deployment(
            name,
            description=f"Brings {', '.join(entry.targets) or 'every stage'} up to date, with all it rests on.",
            parameters={"experiment": entry.experiment, "overrides": entry.overrides, "targets": entry.targets},
            schedule=Cron(entry.schedule, timezone=entry.timezone) if entry.schedule else None,
            tags=["dvc"],
        )
        assert not isinstance(deployment, Coroutine)  # no event loop runs here
        served.append(deployment)
    serve(*served)


def crash_dead_runs() -> None:
    """Have the server mark a run as crashed that has given no sign of life three times, as after a loss of power."""
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    name = "a run that gives no sign of life has crashed"
    beat = "prefect.flow-run.heartbeat"
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    trigger = EventTrigger(
        after={beat},
        expect={beat, *ends},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=3 * HEARTBEAT),
    )
    crashed = ChangeFlowRunState(state=StateType.CRASHED, message="its process is gone; the next run goes on")
    try:
        Automation.read(name=name)  # type: ignore[unused-coroutine]  # there is no event loop here
    except ValueError:
        Automation(name=name, trigger=trigger, actions=[crashed]).create()


def main() -> None:
    """Parse the command line; start a server unless one is left; serve."""
    parser = Parser(prog="make ui", description="A local Prefect server and the deployments of this pipeline.")
    parser.add_argument("--port", type=PORT, default=4200, help="the server's; reports are served at the next one")
    parser.add_argument("--allow", action="append", default=[], help="a folder outside that the form's values may name")
    args = parser.parse_args()
    port = args.port
    os.environ[confine.ALLOWED] = os.pathsep.join(str(Path(folder).resolve()) for folder in args.allow)
    for signal_number in (signal.SIGTERM, signal.SIGHUP):  # asked to end, it ends the server too, as by Ctrl-C
        signal.signal(signal_number, signal.default_int_handler)
    try:
        with alone():
            access, there = choose(port)
            os.environ.update(environment(access))  # before anything imports Prefect, which reads it then
            wanted = settings.read()
            check(wanted)
            started = nullcontext() if there else server.running(access)
            with pages.serving(server.address(port + 1), Path(".dvc/cache")), started:
                written(access)
                print(f"Open {access.entrance}", flush=True)
                deployments(wanted)
    except (ValueError, RuntimeError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
