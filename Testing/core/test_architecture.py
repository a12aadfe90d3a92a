"""The import rules of the design, read from the syntax tree of every file of the core."""

import ast
import graphlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[2] / "X-ray2CTPACore" / "xray2ctpa_core"
FILES = sorted(CORE.rglob("*.py"))

#: Strictly ranked: a part imports itself and parts before it, never one after it.
RANKS = (
    "constants", "errors", "volume", "config", "wording", "triage", "workers", "cluster",
    "io", "preprocessing", "simulation", "models", "diffusion", "explanation", "metrics", "data", "training",
    "pipelines", "generation", "evaluation", "benchmark", "reader_study",
    "mrml", "viewer", "cli",
)  # fmt: skip
RANK_OF = {part: rank for rank, part in enumerate(RANKS)}

#: What only the uppermost layers may do: talk to a terminal, parse arguments, reach the network.
SPEAKING = {"argparse", "click", "getpass", "optparse", "readline", "rich", "tqdm", "typer"}
NETWORKING = {
    "aiohttp", "ftplib", "http", "httpx", "huggingface_hub", "requests", "smtplib", "socket", "socketserver",
    "ssl", "urllib", "urllib3", "xmlrpc",
}  # fmt: skip
#: What fetches a bundle that a user names by its Hub id: the one file below `generation` that may.
FETCHING = "pipelines/loading.py"
#: Needs numpy and the standard library only.
FOUNDATION = RANKS[: RANKS.index("workers")]
#: What `generate` runs through, in Slicer too: must import with the base installation.
INFERENCE = {
    "cli", "diffusion", "explanation", "generation", "io", "metrics", "models", "pipelines", "preprocessing",
}  # fmt: skip
DISTRIBUTION_OF = {"PIL": "Pillow", "sklearn": "scikit-learn"}
#: Calls that touch files, randomness or the network: never while a module is imported.
EFFECTS = {
    "manual_seed", "mkdir", "open", "read_bytes", "read_text", "run", "seed", "urlopen", "write_bytes",
    "write_text",
}  # fmt: skip


def part_of(file: Path) -> str:
    """First component of a file's place in the core: ``io/volumes.py`` is part ``io``."""
    return file.relative_to(CORE).parts[0].removesuffix(".py")


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def package_of(file: Path) -> list[str]:
    """Package that a relative import in ``file`` starts from."""
    return ["xray2ctpa_core", *file.relative_to(CORE).parts[:-1]]


def imported_modules(file: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in ``file``, those inside functions included."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = package_of(file)
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def core_parts(file: Path) -> Iterator[tuple[int, str]]:
    """(line, part) of the core's own parts that ``file`` imports."""
    for line, name in imported_modules(file):
        head, *rest = name.split(".")
        if head == "xray2ctpa_core" and rest and rest[0] in RANK_OF:
            yield line, rest[0]


def libraries(file: Path) -> set[str]:
    return {name.split(".")[0] for _, name in imported_modules(file)}


def name_of(file: Path) -> str:
    return file.relative_to(CORE).as_posix()


def dotted(file: Path) -> str:
    """Name by which a file is imported."""
    return ".".join(("xray2ctpa_core", *file.relative_to(CORE).with_suffix("").parts)).removesuffix(
        ".__init__"
    )


def below_generation() -> list[Path]:
    return [f for f in FILES if RANK_OF.get(part_of(f), len(RANKS)) < RANK_OF["generation"]]


def test_the_core_was_found_and_every_part_has_a_rank():
    parts = {part_of(file) for file in FILES} - {"__init__", "__main__"}
    assert {"constants", "errors", "volume", "config", "io", "pipelines", "cli"} <= parts
    assert parts == set(RANK_OF), "give a new part its rank in RANKS"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_go_one_way(file):
    part = part_of(file)
    if part in ("__init__", "__main__"):
        return
    back = [
        f"{name_of(file)}:{line} imports {other}"
        for line, other in core_parts(file)
        if RANK_OF[other] > RANK_OF[part]
    ]
    assert back == []


def test_no_modules_import_one_another_in_a_circle():
    """Imports inside functions, and for types alone, count too."""
    names = {dotted(file): file for file in FILES}
    graph = {
        name: {
            found
            for _, module in imported_modules(file)
            for found in (module, module.rpartition(".")[0])[: 1 if module in names else 2]
            if found in names and found != name
        }
        for name, file in names.items()
    }
    assert graph["xray2ctpa_core.pipelines.pipeline"] >= {"xray2ctpa_core.pipelines.bundle"}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_the_direction_test_sees_a_wrong_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "CORE", tmp_path)
    (tmp_path / "io").mkdir()
    for line, text in enumerate(
        [
            "from ..pipelines import loading",
            "from xray2ctpa_core import cli",
            "import xray2ctpa_core.viewer.page",
        ]
    ):
        file = tmp_path / "io" / f"wrong{line}.py"
        file.write_text(f"def f():\n    {text}\n", encoding="utf-8")
        assert [RANK_OF[part] > RANK_OF[part_of(file)] for _, part in core_parts(file)] == [True]


@pytest.mark.parametrize("file", [f for f in FILES if part_of(f) in FOUNDATION], ids=name_of)
def test_the_foundation_needs_numpy_only(file):
    assert libraries(file) <= {"numpy", "xray2ctpa_core"} | sys.stdlib_module_names


@pytest.mark.parametrize("file", [f for f in FILES if part_of(f) in INFERENCE], ids=name_of)
def test_inference_needs_the_base_installation_only(file):
    on_import = [node for node in tree_of(file).body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [alias.name for node in on_import if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in on_import if isinstance(node, ast.ImportFrom) and node.module]
    third_party = {name.split(".")[0] for name in modules} - sys.stdlib_module_names - {"xray2ctpa_core"}
    project = tomllib.loads((CORE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = {line.split(">=")[0] for line in project["dependencies"]}
    assert {DISTRIBUTION_OF.get(name, name) for name in third_party} <= base


@pytest.mark.parametrize("file", [f for f in FILES if part_of(f) == "mrml"], ids=name_of)
def test_mrml_needs_slicer_and_vtk_but_neither_torch_nor_qt(file):
    assert libraries(file) <= {"slicer", "vtk", "numpy", "xray2ctpa_core"} | sys.stdlib_module_names
    assert {part for _, part in core_parts(file)} <= {*FOUNDATION, "mrml"}


def test_what_mrml_reads_of_a_result_needs_no_slicer():
    assert libraries(CORE / "mrml" / "record.py") <= {"xray2ctpa_core"} | sys.stdlib_module_names


@pytest.mark.parametrize("file", [f for f in FILES if part_of(f) not in ("mrml", "viewer")], ids=name_of)
def test_slicer_and_qt_stay_in_mrml_and_the_viewer(file):
    assert libraries(file) & {"slicer", "vtk", "qt", "ctk", "PySide6", "trame", "trame_slicer"} == set()


@pytest.mark.parametrize("file", below_generation(), ids=name_of)
def test_nothing_below_generation_speaks_or_reaches_the_network(file):
    reaching = set() if file == CORE / FETCHING else NETWORKING
    assert libraries(file) & (SPEAKING | reaching) == set()
    # A file that is also the program of a child process reads its arguments under the main guard.
    body = [node for statement in library_body(file) for node in ast.walk(statement)]
    assert {called_name(node) for node in body} & {"print", "input", "breakpoint"} == set()
    attributes = {ast.unparse(node) for node in body if isinstance(node, ast.Attribute)}
    assert attributes & {"sys.stdout", "sys.stderr", "sys.argv", "sys.exit"} == set()


def is_main_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def library_body(file: Path) -> list[ast.stmt]:
    """Module-level statements of ``file`` without ``if __name__ == "__main__"``."""
    return [node for node in tree_of(file).body if not is_main_guard(node)]


def called_name(node: ast.AST) -> str | None:
    """``f`` for the calls ``f()`` and ``x.f()``, None for what is no such call."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else None


def assigned_names(file: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of every module-level assignment in ``file``."""
    for node in tree_of(file).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        yield from ((node.lineno, t.id) for t in targets if isinstance(t, ast.Name))


def test_each_constant_is_defined_once():
    constants = {name for _, name in assigned_names(CORE / "constants.py")}
    assert "DEFAULT_HU_WINDOW" in constants
    again = [
        f"{name_of(file)}:{line} {name}"
        for file in FILES
        if file != CORE / "constants.py"
        for line, name in assigned_names(file)
        if name in constants
    ]
    assert again == []


def has_effect(node: ast.stmt) -> bool:
    """Whether a module-level statement does something other than to define, import or describe."""
    if isinstance(node, ast.If):
        return any(has_effect(child) for child in [*node.body, *node.orelse])
    if isinstance(node, ast.Try):
        handled = [child for handler in node.handlers for child in handler.body]
        return any(has_effect(child) for child in [*node.body, *handled, *node.orelse, *node.finalbody])
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return any(called_name(child) in EFFECTS for child in ast.walk(node))
    harmless = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Pass
    return not isinstance(node, harmless)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_importing_a_module_has_no_effect(file):
    effects = [
        f"{name_of(file)}:{node.lineno} {ast.unparse(node).splitlines()[0]}"
        for node in library_body(file)
        if has_effect(node)
    ]
    assert effects == []


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("np.random.seed(0)", True),
        ("TABLE = json.loads(Path('x').read_text())", True),
        ("for i in range(3):\n    pass", True),
        ("if True:\n    print('x')", True),
        ("try:\n    import a\nexcept ImportError:\n    seed(0)", True),
        ("try:\n    import a\nexcept ImportError:\n    import b as a", False),
        ("T = TypeVar('T')", False),
        ("PATTERN: re.Pattern = re.compile('a')", False),
        ("if TYPE_CHECKING:\n    import torch", False),
    ],
)
def test_effects_are_told_from_definitions(text, effect):
    assert has_effect(ast.parse(text).body[0]) is effect


def test_a_bare_import_brings_neither_torch_nor_slicer():
    code = (
        "import sys, xray2ctpa_core, xray2ctpa_core.constants, xray2ctpa_core.errors, xray2ctpa_core.config;"
        "heavy = {'torch', 'slicer', 'vtk', 'diffusers', 'monai', 'SimpleITK', 'scipy', 'sklearn'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "[]"


def test_the_core_folder_holds_no_module_that_slicer_would_load():
    assert sorted(file.name for file in CORE.parent.glob("*.py")) == []
