"""A worker's directories and a phone for its tasks: the conversions are recorded ones, and the tool is `lite_tool`."""

from pathlib import Path

from tests.worker.phones.interpreters import converting
from tests.worker.phones.lite_models import DATA, DYNAMIC, FLOAT, INT8, SIDE, saved, small_network
from tests.worker.phones.lite_tool import tool

from quantfleet_domain.jobs.measured import BenchmarkResult
from quantfleet_domain.jobs.spec import FileRef, InputShape
from quantfleet_domain.jobs.work import BenchmarkWork, ModelForm, Variant
from quantfleet_wire.content import digest_bytes
from quantfleet_worker.phones.phone import Phone
from quantfleet_worker.phones.transports.base import Transport
from quantfleet_worker.phones.transports.local import LocalTransport
from quantfleet_worker.tasks.phone_benchmarking import benchmark_on_phone
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace

BYTES = {name: (DATA / name).stat().st_size for name in (FLOAT, INT8, DYNAMIC)}
CHOOSE = (
    f"{str(DATA)!r} + '/' + "
    f"({DYNAMIC!r} if asked['weight_bits'] else {INT8!r} if 'int8' in asked['program'] else {FLOAT!r})"
)
ISA = ("asimd", "asimddp")


class Host:
    """A worker's directories, and its phone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("cache", "outputs", "scratch", "phone"):
            (folder / name).mkdir()
        self.here = Surroundings(str(folder / "cache"), str(folder / "outputs"), "arm:0", (0,), ISA, "", ())
        self.workspace = Workspace(folder / "cache", folder / "outputs", folder / "scratch")
        self.reports: list[str] = []

    def put(self, name: str, content: bytes) -> FileRef:
        digest = digest_bytes(content)
        (self.folder / "cache" / digest).write_bytes(content)
        return FileRef(name, digest, len(content))

    def phone(
        self,
        mean_ms: str = "len(model) / 1000",
        *,
        first: str = "",
        choose: str = CHOOSE,
        transport: Transport | None = None,
    ) -> Phone:
        """This host, unless another transport leads elsewhere."""
        transport = transport or LocalTransport(str(self.folder / "phone"))
        return Phone(transport, tool(self.folder, mean_ms, first=first), "high", converting(self.folder, choose))

    def benchmark(self, work: BenchmarkWork, phone: Phone) -> BenchmarkResult:
        result = benchmark_on_phone(work, self.workspace, self.here, lambda _, doing: self.reports.append(doing), phone)
        assert not list((self.folder / "phone").iterdir()), "what was carried there is removed"
        return result


def model_files(folder: Path) -> dict[str, bytes]:
    """The small network's files, by name."""
    directory = saved(small_network(), folder)
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix in (".pdmodel", ".pdiparams")}


def work_of(host: Host, model: dict[str, bytes]) -> BenchmarkWork:
    """FP32 and static INT8 of it, in ten warm-ups and a hundred repeats."""
    files = tuple(host.put(name, content) for name, content in model.items())
    return BenchmarkWork(
        model="net",
        engine="paddle-lite",
        variants=(
            Variant("fp32", "none", (ModelForm("", files),)),
            Variant("int8", "static", (ModelForm("s8-symmetric-lite", files),)),
        ),
        modes=("runtime",),
        threads=(1,),
        batch_sizes=(1,),
        warmup=10,
        repeat=100,
        require_quiet=False,
        input_shapes=(InputShape("x", (1, 3, SIDE, SIDE)),),
        data=None,
        preprocess=None,
    )
