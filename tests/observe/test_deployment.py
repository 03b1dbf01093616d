"""The files of `examples/deployment` say what is so: they are read by the parsers that they are meant for,
agree with each other and with the worker, and what they start is started."""

from __future__ import annotations

import asyncio
import configparser
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from saq.cli import build_parser
from saq.observe import health, server
from saq.observe.figures import OF_QUEUES, OF_WORKERS, Figure
from saq.queue.redis import RedisQueue
from saq.settings import check
from saq.worker.parts import DELIVERY_PATIENCE
from saq.worker.process import LAST_MOMENT
from saq.worker.supervisor import KILL_AFTER
from tests.commands.test_cli import registered
from tests.observe.support import get
from tests.ports import free_ports
from tests.processes import ROOT, Command
from tests.worker.support import until

HERE = ROOT / "examples/deployment"
#: Seconds that a worker may need to stop beyond the grace of its jobs: cancelled functions end or do not,
#: what is left is delivered, the registration is taken away, the loop is closed.
TO_STOP = 1.0 + 1.0 + DELIVERY_PATIENCE + DELIVERY_PATIENCE + LAST_MOMENT


class Strict(yaml.SafeLoader):
    """YAML in which a key that comes twice is an error."""


def _mapping(loader: Strict, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"twice in {node.start_mark}: {keys}"
    return {
        key: loader.construct_object(value, deep=True)
        for key, (_, value) in zip(keys, node.value, strict=True)
    }


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load(name: str) -> list[Any]:
    return list(yaml.load_all((HERE / name).read_text(), Strict))


@pytest.fixture(scope="module")
def settings() -> Any:
    """Those of the module that all files start."""
    code = f"""
import sys; sys.path.insert(0, {str(HERE)!r})
import app
print({{k: v for k, v in app.settings.items() if isinstance(v, (int, float))}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return eval(done.stdout)


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((HERE / "saq@.service").read_text())
    return parser


def dockerfile() -> dict[str, list[str]]:
    """Its instructions, with what they are given."""
    text = re.sub(r"\\\n\s*", "", (HERE / "Dockerfile").read_text())
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(rest)
    return found


def deployment() -> Any:
    return next(part for part in load("kubernetes.yaml") if part["kind"] == "Deployment")


def container() -> Any:
    (found,) = deployment()["spec"]["template"]["spec"]["containers"]
    return found


def commands() -> dict[str, list[str]]:
    """What is started, by file: the words behind `saq`."""
    (entry,), (cmd,) = dockerfile()["ENTRYPOINT"], dockerfile()["CMD"]
    assert json.loads(entry) == ["saq"]
    program, *words = shlex.split(unit()["Service"]["ExecStart"].replace("%i", "1"))
    assert program.endswith("/bin/saq")
    return {
        "Dockerfile": json.loads(cmd),
        "saq@.service": words,
        "kubernetes.yaml": container()["args"],
        "compose.yaml web": load("compose.yaml")[0]["services"]["web"]["command"],
    }


@pytest.mark.parametrize("name", commands())
def test_what_is_started_is_a_command_line(name: str) -> None:
    options = build_parser().parse_args(commands()[name])
    assert options.settings == "app.settings"
    assert options.metrics_port in range(9100, 9110)
    inside = name != "saq@.service"
    assert options.metrics_host == ("0.0.0.0" if inside else "127.0.0.1")


def test_the_settings_are_right(settings: Any) -> None:
    assert settings == {"concurrency": 20, "shutdown_grace_period_s": 60}
    check({"functions": [], **settings})


# systemd ----------------------------------------------------------------------------------------------------


def test_systemd_stops_it_the_way_it_wants_to_be_stopped(settings: Any) -> None:
    service = unit()["Service"]
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) >= settings["shutdown_grace_period_s"] + TO_STOP
    assert service["RestartPreventExitStatus"] == "2"
    assert service["Type"] == "exec"
    # What the page says of several workers under one parent.
    assert KILL_AFTER < 35


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    text = (HERE / "saq@.service").read_text()
    for name, here in {
        "/srv/app/.venv/bin/saq": str(Path(sys.executable).parent / "saq"),
        "User=app": "User=root",
        "WorkingDirectory=/srv/app": f"WorkingDirectory={HERE}",
    }.items():
        assert name in text
        text = text.replace(name, here)
    assert _verify(text, tmp_path) == ""
    assert "Failed to parse kill mode" in _verify(text.replace("=mixed", "=mixd"), tmp_path)


def _verify(text: str, folder: Path) -> str:
    file = folder / "saq@.service"
    file.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)], capture_output=True, text=True, timeout=60
    )
    return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if "saq@" in line)


# Docker -----------------------------------------------------------------------------------------------------


def test_the_image_runs_saq_as_process_1_and_not_as_root() -> None:
    lines = dockerfile()
    assert lines["USER"] == ["app"]
    (install,) = [run for run in lines["RUN"] if "pip install" in run]
    extras = re.search(r"saq\[(.*?)\]", install)
    assert extras is not None
    assert {"metrics", "otel", "web"} <= set(extras[1].split(","))
    assert lines["COPY"] == ["app.py ."]
    assert lines["EXPOSE"] == [str(build_parser().parse_args(commands()["Dockerfile"]).metrics_port)]


def test_compose_waits_long_enough_and_keeps_what_redis_was_given(settings: Any) -> None:
    (compose,) = load("compose.yaml")
    services = compose["services"]
    for name in ("worker", "web"):
        service = services[name]
        assert float(service["stop_grace_period"].removesuffix("s")) >= (
            settings["shutdown_grace_period_s"] + TO_STOP
        )
        assert service["environment"]["REDIS_URL"] == "redis://redis:6379"
        assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "AUTH_PASSWORD" in services["web"]["environment"]
    words = services["redis"]["command"].split()
    assert words[words.index("--appendonly") + 1] == "yes"
    assert words[words.index("--maxmemory-policy") + 1] == "noeviction"
    volumes = {
        volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", ())
    }
    for volume in volumes:
        assert (HERE / volume).exists() if volume.startswith("./") else volume in compose["volumes"]


# Kubernetes -------------------------------------------------------------------------------------------------


def test_kubernetes_stops_and_probes_it_the_way_it_wants(settings: Any) -> None:
    spec = deployment()["spec"]
    pod = spec["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= settings["shutdown_grace_period_s"] + TO_STOP
    assert "lifecycle" not in container()
    (port,) = container()["ports"]
    assert port["containerPort"] == build_parser().parse_args(container()["args"]).metrics_port
    probes = {name: container()[name] for name in ("readinessProbe", "livenessProbe")}
    assert {name: probe["httpGet"] for name, probe in probes.items()} == {
        "readinessProbe": {"path": "/ready", "port": port["name"]},
        "livenessProbe": {"path": "/health", "port": port["name"]},
    }
    # A probe that gives up first would never hear why.
    assert probes["readinessProbe"]["timeoutSeconds"] > server.LOOP_PATIENCE
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    (budget,) = [part for part in load("kubernetes.yaml") if part["kind"] == "PodDisruptionBudget"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    annotations = spec["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])


def test_what_the_page_says_in_numbers_is_so() -> None:
    text = (ROOT / "docs/deployment.md").read_text()
    assert f"has not claimed for {health.CLAIM_LIMIT:g} seconds" in text
    assert f"its event loop is {health.LAG_LIMIT:g} seconds late" in text
    assert health.DEAD_LIMIT == 600
    assert "no sign for ten minutes" in text
    assert "need up to 12 of them" in text
    assert 11 < TO_STOP - LAST_MOMENT <= 12
    assert f"the parent kills after {KILL_AFTER:g}" in text


# It is started ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", commands())
async def test_what_the_files_start_works_and_answers_their_probes(
    name: str, redis_url: str, client: RedisQueue
) -> None:
    words = commands()[name]
    options = build_parser().parse_args(words)
    port = free_ports(1)
    words = [
        word.replace(str(options.metrics_port), str(port)).replace("--host=0.0.0.0", "--port=0")
        for word in words
    ]
    env = {"REDIS_URL": redis_url, "AUTH_PASSWORD": "secret", "PYTHONPATH": str(ROOT)}
    with closing(Command("-m", "saq", *words, cwd=HERE, env=env)) as command:
        await registered(client, 1)
        assert await client.apply("send_mail", to="somebody") == "sent to somebody"

        async def ready() -> bool:
            return (await get(f"http://127.0.0.1:{port}/ready")).status == 200

        await until(ready)
        for probe in ("readinessProbe", "livenessProbe"):
            path = container()[probe]["httpGet"]["path"]
            assert (await get(f"http://127.0.0.1:{port}{path}")).status == 200
        assert (await get(f"http://127.0.0.1:{port}/metrics")).value(
            "saq_jobs_started_total", function="send_mail"
        ) == 1
        (check,) = dockerfile()["HEALTHCHECK"]
        python, *rest = json.loads(check.partition("CMD ")[2])
        assert python == "python"
        look = [sys.executable, *(word.replace("9100", str(port)) for word in rest)]
        assert await _exit_code(*look) == 0
        command.send(signal.SIGTERM)
        assert await command.end() == 0
        assert await _exit_code(*look) == 1


async def _exit_code(*words: str) -> int | None:
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
    return await asyncio.wait_for(process.wait(), 20)


# Prometheus and Grafana -------------------------------------------------------------------------------------

FIGURES: dict[str, Figure] = {
    f"{figure.name}{suffix}": figure
    for figure in (*OF_QUEUES, *OF_WORKERS)
    for suffix in (("_bucket", "_sum", "_count") if figure.kind == "histogram" else ("",))
}
#: Labels that a scrape adds.
TARGET = {"instance", "job"}


def check_query(query: str) -> set[str]:
    """The metrics of a query; each is one, and has the labels that it is asked for."""
    names = set(re.findall(r"\bsaq_\w+", query))
    assert names, query
    assert names <= FIGURES.keys(), f"{names - FIGURES.keys()} in {query}"
    for name, selector in re.findall(r"\b(saq_\w+)(?:\{(.*?)\})?", query):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector):
            assert label in FIGURES[name].labels, f"{name} has no {label}"
    grouped = {label for group in re.findall(r"\bby \((.*?)\)", query) for label in group.split(", ")}
    for name in names:
        known = {*FIGURES[name].labels, *TARGET, *(["le"] if name.endswith("_bucket") else [])}
        assert grouped <= known, f"{name} has no {grouped - known}"
    for name in names:
        counts = FIGURES[name].kind != "gauge"
        in_rate = re.search(rf"\b(?:rate|increase)\({name}\b", query) is not None
        assert in_rate is counts, f"{name} is a {FIGURES[name].kind}: {query}"
        if name.startswith("saq_queue_"):  # every process tells the same
            assert "sum" not in query, query
    return names


def panels() -> Iterator[Any]:
    yield from json.loads((HERE / "grafana.json").read_text())["panels"]


def test_the_dashboard_asks_for_what_there_is() -> None:
    asked: set[str] = set()
    for panel in panels():
        for target in panel["targets"]:
            asked |= check_query(target["expr"])
    # And for nearly all that there is.
    names = {FIGURES[name].name for name in asked}
    assert names == {figure.name for figure in FIGURES.values()}
    variables = json.loads((HERE / "grafana.json").read_text())["templating"]["list"]
    assert [variable["name"] for variable in variables] == ["datasource", "queue"]
    assert "saq_queue_up" in variables[1]["query"]


def test_the_panels_of_the_dashboard_lie_side_by_side() -> None:
    found = list(panels())
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)


def test_the_alerts_ask_for_what_there_is() -> None:
    (file,) = load("alerts.yml")
    rules = [rule for group in file["groups"] for rule in group["rules"]]
    assert len(rules) == len({rule["alert"] for rule in rules})
    for rule in rules:
        names = check_query(rule["expr"])
        labels = set.intersection(*({*FIGURES[name].labels, *TARGET} for name in names))
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert label in labels


def test_prometheus_asks_the_right_port_and_reads_the_alerts() -> None:
    (file,) = load("prometheus.yml")
    assert all((HERE / name).exists() for name in file["rule_files"])
    (job,) = file["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    services = load("compose.yaml")[0]["services"]
    assert set(found["names"]) <= set(services)
    assert str(found["port"]) == dockerfile()["EXPOSE"][0]


def test_a_query_for_what_there_is_not_is_found_out() -> None:
    for query in (
        "saq_queue_job",
        'saq_queue_jobs{status="queued"}',
        "max by (function) (saq_queue_up)",
        "saq_jobs_started_total",
        "rate(saq_queue_up[5m])",
        "sum by (queue) (saq_queue_workers)",
    ):
        with pytest.raises(AssertionError):
            check_query(query)
