"""The pods of the `local` overlay as processes of this machine: each on a loopback address of its own, with the ports,
variables, files and probes of its manifest, and the entry point of its image.

Only what a machine without a cluster lacks is put in: names become addresses, mount paths become folders.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import re
import signal
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.k8s import trial
from deploy.local.health import wait_serving
from tests.unit.deploy.k8s.dockerfile import chain, environment, read_stages
from tests.unit.deploy.k8s.manifests import Workload, documents, of_kind, workloads
from venuemesh.security.certificates import ChannelFiles

OVERLAY = "local"
NAMESPACE = "venuemesh-local"
UP_S = 120.0
PAUSE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Where the file system of the images is: `/opt/venuemesh` and `/app`."""

    environment: Path
    app: Path

    def command(self, stage: str) -> list[str]:
        """The entry point of an image, with the program found in the environment."""
        (entry,) = [line.command for line in chain(read_stages(), stage) if line.word == "ENTRYPOINT"]
        assert entry is not None
        return [str(self.environment / "bin" / entry[0]), *entry[1:]]

    def health_check(self, stage: str) -> list[str]:
        """The command that an engine asks with."""
        (check,) = [line.command for line in read_stages()[stage].all("HEALTHCHECK")]
        assert check is not None
        return [str(self.environment / "bin" / check[0]), *check[1:]]


@dataclass(slots=True)
class Pod:
    """A pod and its processes, the main one last."""

    name: str
    address: str
    workload: Workload
    folder: Path
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def main(self) -> asyncio.subprocess.Process:
        return self.processes[-1]

    def log(self) -> str:
        """The end of what its main container wrote."""
        return (self.folder / f"{self.workload.name}.log").read_text()[-3_000:]


class Cluster:
    """All pods of the overlay."""

    def __init__(self, folder: Path, image: Image) -> None:
        self._folder = folder
        self._image = image
        # Nobody else uses this network, so the manifests' ports are free.
        self._network = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"
        self.pods: dict[str, Pod] = {}
        for name, workload in workloads(OVERLAY).items():
            count = workload.doc["spec"].get("replicas", 1)
            for number in range(count):
                pod = f"{name}-{number}" if workload.doc["kind"] == "StatefulSet" else name
                address = f"{self._network}.{len(self.pods) + 1}"
                self.pods[pod] = Pod(pod, address, workload, folder / pod)
        made = trial.objects(NAMESPACE, folder / "made", datetime.now(UTC), [pod.address for pod in self.pods.values()])
        self._objects = {(each["kind"], each["metadata"]["name"]): each for each in made}
        for name, each in of_kind(documents(OVERLAY), "ConfigMap").items():
            self._objects["ConfigMap", name] = each

    # --- what a pod sees

    def files(self, secret: str) -> Path:
        """A folder with the files of a Secret, for callers outside of the pods."""
        folder = self._folder / "outside" / secret
        folder.mkdir(parents=True, exist_ok=True)
        for key, text in self._objects["Secret", secret]["data"].items():
            (folder / key).write_bytes(base64.b64decode(text))
        return folder

    def channel_files(self, holder: str) -> ChannelFiles:
        """How the holder of a certificate calls a service."""
        folder = self.files(f"{holder}-tls")
        return ChannelFiles(ca_file=folder / "ca.crt", cert_file=folder / "tls.crt", key_file=folder / "tls.key")

    def address(self, service: str) -> str:
        """Where the pod of a service is."""
        return next(pod.address for pod in self.pods.values() if pod.workload.name == service)

    def _placed(self, pod: Pod, text: str) -> str:
        for mount in pod.workload.main["volumeMounts"]:
            text = re.sub(rf"(?<![\w/]){mount['mountPath']}(?=[/\"]|$)", f"{pod.folder}{mount['mountPath']}", text)
        text = text.replace("0.0.0.0", pod.address)
        for name, other in self.pods.items():
            host = f"{name}.{other.workload.name}" if other.workload.name == "nats" else other.workload.name
            text = re.sub(rf"(?<=[/=]){re.escape(host)}(?=:\d)", other.address, text)
        return text

    def _mount(self, pod: Pod) -> None:
        volumes = pod.workload.volumes()
        for mount in pod.workload.main["volumeMounts"]:
            target = Path(f"{pod.folder}{mount['mountPath']}")
            target.mkdir(parents=True)
            volume = volumes.get(mount["name"], {})
            if "secret" in volume:
                for key, text in self._objects["Secret", volume["secret"]["secretName"]]["data"].items():
                    (target / key).write_bytes(base64.b64decode(text))
                    (target / key).chmod(0o440)
            if "configMap" in volume:
                for key, text in self._objects["ConfigMap", volume["configMap"]["name"]]["data"].items():
                    (target / key).write_text(self._placed(pod, text))

    def _variables(self, pod: Pod, container: Mapping[str, Any]) -> dict[str, str]:
        image = container["image"].partition("/")[2].partition(":")[0]
        found = {**environment(read_stages(), image), "PATH": os.environ["PATH"]}
        for reference in container.get("envFrom", ()):
            found |= self._objects["ConfigMap", reference["configMapRef"]["name"]]["data"]
        for entry in container.get("env", ()):
            found[entry["name"]] = self._placed(pod, entry["value"]) if "value" in entry else pod.name
        if image == "simulator":
            # Pods share nothing; here all share 127.0.0.1, so the venue is on the pod's own loopback address.
            found["SIMULATOR_HOST"] = pod.address
        elif image.startswith("gateway-"):
            port = 3002 if image == "gateway-lighter" else 3001
            found[f"{image.upper().replace('-', '_')}_API_URL"] = f"http://{pod.address}:{port}"
        return found

    # --- running

    async def start(self, names: Sequence[str]) -> None:
        """Start these pods and wait until each is ready."""
        for name in names:
            await self._start(self.pods[name])
        async with asyncio.timeout(UP_S):
            for name in names:
                await self._wait_ready(self.pods[name])

    async def _start(self, pod: Pod) -> None:
        self._mount(pod)
        for container in pod.workload.containers:
            image = container["image"].partition("/")[2].partition(":")[0]
            arguments = [self._placed(pod, each) for each in container.get("args", ())]
            with (pod.folder / f"{container['name']}.log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    *self._image.command(image),
                    *arguments,
                    cwd=self._image.app,
                    env=self._variables(pod, container),
                    stdout=log,
                    stderr=log,
                )
            pod.processes.append(process)

    async def _wait_ready(self, pod: Pod) -> None:
        for kind in ("startupProbe", "readinessProbe"):
            asking = asyncio.create_task(self._probe(pod, pod.workload.main[kind]), name=f"{kind} of {pod.name}")
            ending = asyncio.create_task(pod.main.wait(), name=f"end of {pod.name}")
            try:
                await asyncio.wait({asking, ending}, return_when=asyncio.FIRST_COMPLETED)
                assert not ending.done(), f"{pod.name} ended with {ending.result()}: {pod.log()}"
                await asking
            finally:
                ending.cancel()
                asking.cancel()

    async def _probe(self, pod: Pod, probe: Mapping[str, Any]) -> None:
        if "grpc" in probe:
            where = probe["grpc"]
            await wait_serving(f"{pod.address}:{where['port']}", name=where["service"], timeout_s=UP_S)
            return
        ports = {port["name"]: port["containerPort"] for port in pod.workload.main["ports"]}
        url = f"http://{pod.address}:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
        while not await asyncio.to_thread(_answers, url):
            await asyncio.sleep(PAUSE_S)

    async def stop(self, name: str) -> int:
        """SIGTERM to every process of a pod; the main one's exit code, -9 when the grace was not enough."""
        pod = self.pods[name]
        for process in pod.processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(pod.workload.pod["terminationGracePeriodSeconds"]):
                for process in pod.processes:
                    await process.wait()
        except TimeoutError:
            self.kill(pod)
        return await pod.main.wait()

    def kill(self, pod: Pod) -> None:
        """Everything of a pod, at once."""
        for process in pod.processes:
            if process.returncode is None:
                process.kill()

    async def scrape(self, service: str, server_name: str) -> str:
        """The metrics of a service, as Prometheus reads them."""
        files = self.channel_files("metrics-reader")
        context = ssl.create_default_context(cafile=files.ca_file)
        assert files.cert_file is not None
        context.load_cert_chain(files.cert_file, files.key_file)
        reader, writer = await asyncio.open_connection(
            self.address(service), 9464, ssl=context, server_hostname=server_name
        )
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        return text


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@asynccontextmanager
async def cluster(folder: Path, image: Image) -> AsyncIterator[Cluster]:
    """The overlay, with nothing started; whatever was is ended with the block."""
    made = Cluster(folder, image)
    try:
        yield made
    finally:
        for pod in made.pods.values():
            made.kill(pod)
            for process in pod.processes:
                await process.wait()
