"""deploy/ against schemas, against the programs that it starts, and against what it promises.

Nothing here builds the container or runs it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml", reason="PyYAML is not installed")
pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

import kubernetes_validate
import yaml

from mixpriv.cli.research import main as train
from mixpriv.cli.server import main as server
from tests.support.toybundle import write_toy_bundle

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFESTS = [path for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) if path.stem != "kustomization"]
SERVE = (DEPLOY / "serve").read_text(encoding="utf-8")


def load(path: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))


def pod_of_deployment() -> dict[str, Any]:
    return load("kubernetes/deployment.yaml")["spec"]["template"]["spec"]


def predictor() -> dict[str, Any]:
    return dict(load("kserve/inferenceservice.yaml")["spec"]["predictor"])


def validate(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


class TestKubernetes:
    @pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
    def test_fits_its_schema(self, path: Path) -> None:
        validate(yaml.safe_load(path.read_text(encoding="utf-8")))

    def test_a_wrong_field_would_be_found(self) -> None:
        manifest = load("kubernetes/deployment.yaml")
        manifest["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
        with pytest.raises(kubernetes_validate.ValidationError, match="readinessProb"):
            validate(manifest)

    def test_all_are_applied_together(self) -> None:
        assert set(load("kubernetes/kustomization.yaml")["resources"]) == {path.name for path in MANIFESTS}

    def test_all_mean_the_same_pods_and_ports(self) -> None:
        template = load("kubernetes/deployment.yaml")["spec"]["template"]
        labels = template["metadata"]["labels"]
        service, autoscaler = load("kubernetes/service.yaml")["spec"], load("kubernetes/autoscaler.yaml")["spec"]
        assert service["selector"] == labels
        assert service["clusterIP"] == "None"
        for name, key in (("disruption", "selector"), ("network", "podSelector")):
            assert load(f"kubernetes/{name}.yaml")["spec"][key]["matchLabels"] == labels
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports
        outside = load("kubernetes/outside.yaml")["spec"]
        assert (outside["selector"], [port["port"] for port in outside["ports"]]) == (labels, [8001])
        assert autoscaler["scaleTargetRef"]["name"] == load("kubernetes/deployment.yaml")["metadata"]["name"]
        assert autoscaler["metrics"][0]["pods"]["metric"]["name"] == "nv_inference_pending_request_count"


@pytest.mark.parametrize("pod", [pod_of_deployment(), predictor()], ids=["deployment", "kserve"])
class TestPods:
    def test_may_do_nothing_that_they_need_not(self, pod: dict[str, Any]) -> None:
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
        }  # fmt: skip

    def test_have_every_volume_that_is_mounted(self, pod: dict[str, Any]) -> None:
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
        shared = next(volume for volume in pod["volumes"] if mounts[volume["name"]] == "/dev/shm")
        assert shared["emptyDir"]["medium"] == "Memory"

    @pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
    def test_are_probed_by_an_inference_over_tls(self, pod: dict[str, Any], probe: str) -> None:
        (container,) = pod["containers"]
        command = container[probe]["exec"]["command"]
        folders = {mount["mountPath"] for mount in container["volumeMounts"]}
        files = dict(option.split("=") for option in command[2:])
        assert command[:2] == ["mixpriv-server", "check"]
        assert files.pop("--server") == "localhost:8001"
        assert files.keys() == {"--tls-ca", "--tls-cert", "--tls-key"}
        assert {os.path.dirname(file) for file in files.values()} <= folders
        assert container[probe]["timeoutSeconds"] <= container[probe]["periodSeconds"] * 2


def test_the_probes_are_commands_of_this_version(capsys: pytest.CaptureFixture[str]) -> None:
    (container,) = pod_of_deployment()["containers"]
    (node,) = load("compose.yaml")["services"].values()
    for command in (container["livenessProbe"]["exec"]["command"], node["healthcheck"]["test"][1:]):
        # Understood, as far as the certificates, which are not here.
        assert server.main(command[1:]) == 2
        assert capsys.readouterr().err.startswith("mixpriv-server: tls: /etc/mixpriv/tls/ca.crt")


class TestKserve:
    """The part of the InferenceService's schema that is Kubernetes' own; KServe's is read by hand."""

    def test_is_an_inference_service(self) -> None:
        manifest = load("kserve/inferenceservice.yaml")
        assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
        assert manifest["spec"].keys() == {"predictor"}
        assert manifest["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"

    def test_predictor_is_a_pod_with_replicas(self) -> None:
        pod = predictor()
        assert 1 <= pod.pop("minReplicas") <= pod.pop("maxReplicas")
        assert pod.pop("deploymentStrategy") == load("kubernetes/deployment.yaml")["spec"]["strategy"]
        assert (
            pod.pop("annotations") == load("kubernetes/deployment.yaml")["spec"]["template"]["metadata"]["annotations"]
        )
        validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": pod})

    def test_what_stands_around_it_is_the_deployments(self) -> None:
        around = list(yaml.safe_load_all((DEPLOY / "kserve" / "around.yaml").read_text(encoding="utf-8")))
        theirs = [load(f"kubernetes/{name}.yaml") for name in
                  ("namespace", "service", "outside", "autoscaler", "disruption", "network")]  # fmt: skip
        pods = {"serving.kserve.io/inferenceservice": load("kserve/inferenceservice.yaml")["metadata"]["name"]}
        for ours, other in zip(around, theirs, strict=True):
            validate(ours)
            assert ours["kind"] == other["kind"]
        _, service, outside, autoscaler, budget, policy = (manifest.get("spec") for manifest in around)
        assert service["selector"] == outside["selector"] == pods
        assert budget["selector"]["matchLabels"] == policy["podSelector"]["matchLabels"] == pods
        assert autoscaler["scaleTargetRef"]["name"] == "mixpriv-predictor"
        theirs_for = ("scaleTargetRef", "selector", "podSelector")
        for own, other, field in zip((autoscaler, budget, policy), theirs[3:], theirs_for, strict=True):
            assert own | {field: None} == other["spec"] | {field: None}

    def test_runs_what_the_deployment_runs(self) -> None:
        ours, theirs = predictor(), pod_of_deployment()
        (one,), (other,) = ours["containers"], theirs["containers"]
        for own in ("name", "ports"):
            del one[own], other[own]
        assert one == other
        for field in ("securityContext", "volumes", "terminationGracePeriodSeconds", "tolerations"):
            assert ours[field] == theirs[field]


COMPOSE_FIELDS = {
    "build", "cap_drop", "deploy", "environment", "healthcheck", "image", "init", "ports", "read_only", "restart",
    "security_opt", "shm_size", "stop_grace_period", "tmpfs", "user", "volumes",
}  # fmt: skip


class TestCompose:
    """What is used of the Compose specification, by hand: the packages with its schema need an old PyYAML."""

    def test_uses_known_fields_and_its_own_volumes(self) -> None:
        compose = load("compose.yaml")
        assert compose.keys() == {"name", "services", "volumes"}
        (node,) = compose["services"].values()
        assert node.keys() <= COMPOSE_FIELDS
        assert node["healthcheck"].keys() == {"test", "interval", "timeout", "retries", "start_period"}
        named = {v.split(":")[0] for v in node["volumes"] if not v.startswith(".")}
        assert named == compose["volumes"].keys()

    def test_may_do_nothing_that_it_need_not(self) -> None:
        (node,) = load("compose.yaml")["services"].values()
        assert (node["read_only"], node["cap_drop"], node["user"]) == (True, ["ALL"], "10001:10001")
        assert "no-new-privileges:true" in node["security_opt"]
        assert [port for port in node["ports"] if port.endswith(":8002")] == ["127.0.0.1:8002:8002"]

    def test_keys_are_in_no_image_and_no_commit(self) -> None:
        root = DEPLOY.parent
        for name in (".gitignore", ".dockerignore"):
            assert "deploy/tls" in (root / name).read_text(encoding="utf-8")

    def test_builds_the_container_that_is_here(self) -> None:
        build = load("compose.yaml")["services"]["node"]["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Containerfile"


class TestContainer:
    TEXT = (DEPLOY / "Containerfile").read_text(encoding="utf-8")

    def test_copies_what_exists_and_is_nobody(self) -> None:
        sources = re.findall(r"^COPY (?:--chmod=\d+ )?([^-\s]\S*) ", self.TEXT, re.M)
        assert sources == [".", "deploy/serve"]  # beside what the first stage made
        assert os.access(DEPLOY / "serve", os.X_OK)
        assert re.findall(r"^USER (.*)$", self.TEXT, re.M) == ["10001:10001"]

    def test_has_the_tensorrt_of_its_image(self) -> None:
        known = dict(re.findall(r"(\d\d\.\d\d-py3) (\d+(?:\.\d+){3})", self.TEXT))
        triton, tensorrt = (re.search(rf"^ARG {name}=(.*)$", self.TEXT, re.M)[1] for name in ("TRITON", "TENSORRT"))  # type: ignore[index]
        assert known[triton] == tensorrt
        assert len(known) == 2


class TestServe:
    def test_is_a_script(self) -> None:
        subprocess.run(["bash", "-n", DEPLOY / "serve"], check=True)

    def test_calls_our_commands_as_they_are(self) -> None:
        lines = SERVE.replace("\\\n", " ").splitlines()
        given = (line.strip().removeprefix("run ").replace('"${export[@]}"', "--export x") for line in lines)
        calls = [shlex.split(line) for line in given if line.startswith("mixpriv")]
        ours = [call for call in calls if call[0] in ("mixpriv", "mixpriv-server")]
        assert len(ours) == 3
        for program, *arguments in ours:
            replaced = [re.sub(r"\$\{MIXPRIV_BATCH:-3\}", "3", a).replace("$platform", "tensorrt") for a in arguments]
            parser = train._parser() if program == "mixpriv" else server.make_parser()
            parser.parse_args(replaced)

    def test_gives_tritonserver_options_that_it_knows(self) -> None:
        wheel = pytest.importorskip("mixpriv.server.wheel")
        program = wheel.find_wheel().server
        libraries = os.pathsep.join(str(path) for path in program.parents[1].glob("*lib*"))
        environment = dict(os.environ, LD_LIBRARY_PATH=libraries)
        done = subprocess.run([program, "--help"], env=environment, capture_output=True, text=True, check=False)
        known = set(re.findall(r"^\s*(--[a-z0-9-]+)", done.stdout + done.stderr, re.M))
        used = set(re.findall(r"^    (--[a-z0-9-]+)", SERVE.split("exec tritonserver")[1], re.M))
        assert len(used) > 15
        assert used <= known

    @pytest.mark.parametrize("missing", ["tls.crt", "tls.key", "ca.crt"])
    def test_starts_nothing_without_its_certificates(self, tmp_path: Path, missing: str) -> None:
        for name in {"tls.crt", "tls.key", "ca.crt"} - {missing}:
            (tmp_path / name).write_text("x")
        environment = {"PATH": os.environ["PATH"], "MIXPRIV_TLS": str(tmp_path), "MIXPRIV_STATE": str(tmp_path / "s")}
        done = subprocess.run([DEPLOY / "serve"], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"mixpriv-serve: {tmp_path / missing} is missing or not readable\n"

    def test_tells_its_secret_to_tritonserver_alone(self, tmp_path: Path) -> None:
        bundle, programs, state = write_toy_bundle(tmp_path / "toy"), tmp_path / "bin", tmp_path / "state"
        for folder in (programs, state):
            folder.mkdir()
        script = "#!/bin/bash\nprintf '%s\\n' \"$@\"\necho listed:\ntr '\\0' '\\n' </proc/$$/cmdline\n"
        (programs / "tritonserver").write_text(script)
        (programs / "tritonserver").chmod(0o755)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (tmp_path / name).write_text("x")
        environment = {
            "PATH": os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"])),
            "MIXPRIV_BUNDLE": str(bundle.directory),
            "MIXPRIV_PLATFORM": "onnxruntime",
            "MIXPRIV_TLS": str(tmp_path),
            "MIXPRIV_STATE": str(state),
        }
        done = subprocess.run([DEPLOY / "serve"], env=environment, capture_output=True, text=True, check=True)
        told, _, listed = done.stdout.partition("listed:\n")
        assert re.search(r"^--grpc-restricted-protocol=shared-memory,\S+,logging:none=[A-Za-z0-9]{30,}$", told, re.M)
        assert "--grpc-restricted-protocol=@\n" in listed

    def test_ends_while_it_builds_a_plan_and_leaves_nothing_half_built(self, tmp_path: Path) -> None:
        programs, state = tmp_path / "bin", tmp_path / "state"
        programs.mkdir()
        (state / ".export.7").mkdir(parents=True)
        (programs / "mixpriv").write_text(f"#!/bin/bash\necho $$ > {tmp_path}/child\nexec sleep 600\n")
        (programs / "mixpriv").chmod(0o755)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (tmp_path / name).write_text("x")
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "MIXPRIV_TLS": str(tmp_path),
            "MIXPRIV_STATE": str(state),
        }
        with subprocess.Popen([DEPLOY / "serve"], env=environment) as process:
            end = time.monotonic() + 30
            while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.02)
            process.terminate()
            assert process.wait(timeout=10) == 143
        assert list(state.iterdir()) == []
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "child").read_text()), 0)
