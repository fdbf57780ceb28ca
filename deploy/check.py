"""Checks everything in deploy/, Dockerfile and docker-compose.yml against the program: deploy/check.py WINDLASS.

The chart is linted, packaged and rendered with each file in its directory `ci`, by Helm, and the objects are validated
against the schemas of the oldest and the newest supported version of Kubernetes. (The test suite requests the paths of
the probes.)
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import helm_python as helm
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy/helm/windlass"
WINDLASS = pathlib.Path(sys.argv[1]).resolve()
# Variables of the store's client and of TLS.
OTHER_VARIABLES = re.compile(r"(AWS|GOOGLE|AZURE)_[A-Z0-9_]+|SSL_CERT_(FILE|DIR)|PATH")
# Objects that the user creates.
NEW = {"windlass-database", "windlass-store", "windlass-key", "registry", "shared", "ca", "default"}
# Values, and a part of the error that they cause.
REFUSED = [
    ({}, "set one of database.url"),
    ({"database": {"url": "postgres://h/d", "existingSecret": "s"}}, "set one of database.url"),
    ({"database": {"existingSecret": "s"}}, "set store.url"),
    ({"database": {"existingSecret": "s"}, "persistence": {"enabled": True}}, "a single replica"),
    ({"database": {"url": "mysql://h/d"}}, "/database/url"),
    ({"store": {"url": "/var/objects"}}, "/store/url"),
    ({"store": {"credentials": {"AWS_ACCESS_KEY_ID": 1}}}, "want string"),
    ({"settings": {"WINDLASS_MAX_PART_BYTES": 67108864}}, "want string"),
    ({"settings": {"WINDLASS_LISTEN": "0.0.0.0:1"}}, "WINDLASS_LISTEN"),
    ({"apiKey": {"value": "too short"}}, "/apiKey/value"),
    ({"replica": 3}, "'replica' not allowed"),
    ({"service": {"port": 0}}, "/service/port"),
]


def run(*command, **options):
    done = subprocess.run(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout}{done.stderr or ''}"
    return done.stdout


def passed(what):
    print(f"ok: {what}")


MANUAL = run(WINDLASS, "--help")
SETTINGS = set(re.findall(r"\b(?:WINDLASS_[A-Z0-9_]+|DATABASE_URL)\b", MANUAL))


def check_settings(where, variables):
    """Checks that the program knows these variables and accepts their values."""
    for name in variables:
        assert name in SETTINGS or OTHER_VARIABLES.fullmatch(name), f"{where}: {name} is not a setting"
    # Any command reads all settings.
    # Files exist only in the container.
    here = {name: str(value) for name, value in variables.items() if value is not None and not name.endswith("_FILE")}
    run(WINDLASS, "openapi", env=here)


def render(values, is_upgrade):
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name="demo", namespace="files", is_upgrade=is_upgrade)
    texts = [text for path, text in files.items() if not path.endswith(".txt")]
    return [it for text in texts for it in yaml.safe_load_all(text) if it]


def check_pod(where, pod, names):
    [container] = pod["containers"]
    restricted = container["securityContext"]
    assert restricted["readOnlyRootFilesystem"] and not restricted["allowPrivilegeEscalation"], where
    assert restricted["capabilities"] == {"drop": ["ALL"]} and pod["securityContext"]["runAsNonRoot"], where
    # The user of the image.
    assert f"USER {pod['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text(), where
    variables = {it["name"]: it.get("value") for it in container["env"]}
    assert len(variables) == len(container["env"]), f"{where}: a variable is set twice"
    check_settings(where, variables)
    sources = [it["valueFrom"]["secretKeyRef"] for it in container["env"] if "valueFrom" in it]
    for source in sources + [it["secretRef"] for it in container.get("envFrom", [])]:
        keys = names.get(("Secret", source["name"]), {}).get("stringData")
        assert source["name"] in NEW or keys and source.get("key", next(iter(keys))) in keys, f"{where}: {source}"
    for volume in pod["volumes"]:
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        assert claim in NEW | {None} or ("PersistentVolumeClaim", claim) in names, f"{where}: {claim}"
    assert ("ServiceAccount", pod["serviceAccountName"]) in names or pod["serviceAccountName"] in NEW, where
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in container:
            assert container[probe]["httpGet"]["port"] in [it["name"] for it in container["ports"]], where
    port = next(iter(container.get("ports", [])), {}).get("containerPort", 8080)
    assert variables["WINDLASS_LISTEN"].endswith(f":{port}"), where


def check_objects(where, objects):
    oldest = re.search(r"[0-9]+\.[0-9]+", yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"])[0]
    names = {(it["kind"], it["metadata"]["name"]): it for it in objects}
    assert len(names) == len(objects), f"{where}: two objects have the same name"
    [deployment] = [it for it in objects if it["kind"] == "Deployment"]
    pods = {it["kind"]: it["spec"]["template"] for it in objects if it["kind"] in ("Deployment", "Job")}
    for kind, pod in pods.items():
        check_pod(f"{where}: {kind}", pod["spec"], names)
    labels = pods["Deployment"]["metadata"]["labels"].items()
    for it in objects:
        kind, spec = it["kind"], it.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector") or {}
        selector = selector.get("matchLabels", selector)
        assert selector.items() <= labels, f"{where}: {kind} selects no pod"
        if kind in ("Service", "PodDisruptionBudget", "Deployment"):
            others = [pod["metadata"]["labels"].items() for other, pod in pods.items() if other != "Deployment"]
            assert selector and not any(selector.items() <= it for it in others), f"{where}: {kind} selects the Job"
        if kind == "ServiceMonitor":
            service = names[("Service", deployment["metadata"]["name"])]
            assert selector.items() <= service["metadata"]["labels"].items(), where
            assert spec["endpoints"][0]["port"] in [it["name"] for it in service["spec"]["ports"]], where
            continue  # Kubernetes has no schema for it.
        for version in (oldest, kubernetes_validate.latest_version()):
            kubernetes_validate.validate(it, version, strict=True)


def check_chart():
    files = sorted((CHART / "ci").glob("*-values.yaml"))
    assert len(files) >= 3
    used = set()
    for file in files:
        values = helm.values_from_yaml(file.read_text())
        report = helm.lint(CHART, values, strict=True)
        assert not report["errors"], f"{file.name}: {report}"
        for is_upgrade in (False, True):
            objects = render(values, is_upgrade)
            check_objects(file.name, objects)
            used |= {it["kind"] for it in objects}
        passed(f"chart with {file.name}: {len(objects)} objects")
    templates = {next(iter(re.findall(r"^kind: (\w+)", it.read_text(), re.M)), None) for it in CHART.glob("templates/*")}
    assert used == templates - {None}, f"not rendered: {templates - used}"
    for values, expected in REFUSED:
        try:
            render(values, False)
        except helm.HelmError as error:
            assert expected in str(error), f"{values}: {error}"
        else:
            raise AssertionError(f"the chart accepts {values}")
    passed(f"chart refuses {len(REFUSED)} kinds of wrong values")
    with helm.Chart.load(CHART) as chart:
        documented, known = chart.values, chart.schema["properties"]
    assert set(documented) | {"global"} == set(known), set(documented) ^ set(known)
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    with tempfile.TemporaryDirectory() as place:
        package = helm.package(CHART, destination=place)
        with helm.Chart.load(package) as chart:
            assert chart.metadata["appVersion"] == version, "appVersion is not the version of the program"
            assert not any("ci/" in it["name"] for it in chart.files)
    passed(f"chart is packaged by Helm {helm.helm_sdk_version()}")


def check_unit():
    unit = (ROOT / "deploy/systemd/windlass.service").read_text()
    examples = (ROOT / "deploy/systemd/windlass.env").read_text()
    check_settings("windlass.service", dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.M)))
    # Examples without a value are not set.
    examples = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", examples, re.M))
    check_settings("windlass.env", examples)
    assert len(examples) >= 5
    for name in set(re.findall(r"\bWINDLASS_[A-Z_]+", unit)):
        assert name in SETTINGS, f"windlass.service: {name}"
    passed("settings of the systemd unit")
    if shutil.which("systemd-analyze"):
        with tempfile.TemporaryDirectory() as place:
            copy = pathlib.Path(place) / "windlass.service"
            copy.write_text(unit.replace("/usr/bin/windlass", str(WINDLASS)))
            # It only warns about an invalid value.
            warnings = run("systemd-analyze", "verify", "--man=no", copy, stderr=subprocess.STDOUT)
            assert "windlass.service" not in warnings, warnings
            if " --offline=BOOL" in run("systemd-analyze", "--help"):
                run("systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", copy)
        passed("systemd-analyze verify and security, exposure at most 1.5")


def check_containers():
    dockerfile = (ROOT / "Dockerfile").read_text()
    variables = [it.split("=", 1) for line in re.findall(r"^ENV (.*)$", dockerfile, re.M) for it in line.split()]
    check_settings("Dockerfile", dict(variables))
    check = json.loads(re.search(r"^HEALTHCHECK .* CMD (.*)$", dockerfile, re.M)[1])
    run(WINDLASS, *check[1:], "--help")
    stack = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    check_settings("docker-compose.yml", dict.fromkeys(stack["services"]["windlass"]["environment"]))
    tools = pathlib.Path(sys.executable).parent
    run(tools / "hadolint", ROOT / "Dockerfile")
    run(tools / "compose-lint", "check", "--strict-config", "--fail-on=low", "--no-env", "--config",
        ROOT / "deploy/compose-lint.yml", ROOT / "docker-compose.yml")
    passed("Dockerfile and docker-compose.yml, with hadolint and compose-lint")


def check_alerts():
    rules = ROOT / "deploy/prometheus/windlass-alerts.yml"
    run(ROOT / ".dev/prometheus/usr/bin/promtool", "check", "rules", rules)
    passed("alert rules, with promtool")


os.environ.pop("DATABASE_URL", None)
check_chart()
check_unit()
check_containers()
check_alerts()
