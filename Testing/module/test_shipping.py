"""What is shipped of the module: file lists, sizes, the index's entry, what importing it may do."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from kept_pictures import MAX_BYTES, SHOWS, shipped_bundle
from PIL import Image

MODULE = Path(__file__).resolve().parents[2] / "X-ray2CTPA"
#: What Slicer 5.10 and 5.12 ship, and the core's parts that need nothing else.
AT_IMPORT = {
    "slicer",
    "qt",
    "vtk",
    "numpy",
    "xray2ctpa_core",
    "XRay2CTPALib",
    "XRay2CTPAReaderStudyLib",
    "PyTorchUtils",
    "DICOMLib",
    "SampleData",
}
NAME_OF = {MODULE: "XRay2CTPA", MODULE.parent / "X-ray2CTPAReaderStudy": "XRay2CTPAReaderStudy"}
SCRIPTS = sorted(file for module in NAME_OF for file in module.rglob("*.py"))


def listed(module: Path, name: str) -> set[str]:
    text = (module / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", NAME_OF[module])
    [block] = re.findall(rf"set\({name}\n(.*?)\n  \)", text, re.S)
    return set(block.split())


@pytest.mark.parametrize("module", NAME_OF, ids=NAME_OF.get)
def test_cmake_lists_every_file_of_the_module(module):
    scripts = {p.relative_to(module).as_posix() for p in module.rglob("*.py")}
    resources = {p.relative_to(module).as_posix() for p in (module / "Resources").rglob("*") if p.is_file()}
    assert listed(module, "MODULE_PYTHON_SCRIPTS") == scripts
    assert listed(module, "MODULE_PYTHON_RESOURCES") == resources


def test_the_extension_contains_the_module(repository):
    text = (repository / "CMakeLists.txt").read_text(encoding="utf-8")
    for module in NAME_OF:
        assert f"add_subdirectory({module.name})" in text
    assert re.search(r'set\(EXTENSION_ICONURL "https://[^"]+\.png"\)', text)
    urls = re.search(r'set\(EXTENSION_SCREENSHOTURLS "([^"]+)"\)', text)[1].split()
    for url in urls:
        assert (repository / url.split("/main/")[1]).is_file(), url


@pytest.mark.parametrize("module", NAME_OF, ids=NAME_OF.get)
def test_the_module_file_is_short_and_alone(module):
    assert len((module / f"{NAME_OF[module]}.py").read_text(encoding="utf-8").splitlines()) < 150
    assert [path.name for path in module.glob("*.py")] == [f"{NAME_OF[module]}.py"]


def test_icon_and_thumbnail_have_the_sizes_that_slicer_asks_for():
    for module, name in NAME_OF.items():
        with Image.open(module / "Resources" / "Icons" / f"{name}.png") as icon:
            assert icon.size == (128, 128)
    with Image.open(MODULE / "Resources" / "Icons" / "XRay2CTPASample.png") as thumbnail:
        assert thumbnail.size == (260, 280)


@pytest.mark.parametrize("name", ["panel", "views", "page"])
def test_a_screenshot_shows_the_shipped_bundle_and_is_small(name):
    file = MODULE / "Screenshots" / f"{name}.png"
    assert file.stat().st_size <= MAX_BYTES
    with Image.open(file) as picture:
        assert picture.text[SHOWS] == shipped_bundle(), "take it anew: make screenshots"


def test_a_clone_with_its_working_tree_is_as_small_as_the_index_asks(repository, tmp_path):
    """The extension index takes at most 100 MB, history and files together. A clone stores what is alike in
    versions of a file once, as this repository itself may not yet."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=repository, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no history here: {done.stderr.strip()}")
        return done.stdout

    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        pytest.skip("a shallow clone has no history")
    git("clone", "--quiet", "--bare", "--no-local", repository.resolve().as_uri(), str(tmp_path / "clone"))
    history = sum(path.stat().st_size for path in (tmp_path / "clone").rglob("*") if path.is_file())
    names = git("ls-files", "-z").split("\0")[:-1]
    files = sum((repository / name).lstat().st_size for name in names if (repository / name).is_file())
    assert 1e6 < history + files < 100e6


def test_make_screenshots_runs_tests_that_there_are(repository):
    named = re.findall(r"pytest (Testing/\S+)::(\w+)", (repository / "Makefile").read_text(encoding="utf-8"))
    assert len(named) == 2
    for file, name in named:
        assert f"def {name}(" in (repository / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dicom.txt"])
def test_the_requirements_are_the_cores_own(name, repository):
    lines = (MODULE / "Resources" / name).read_text(encoding="utf-8").splitlines()
    text = (repository / "X-ray2CTPACore" / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    extra = "dicom" in name
    packages = project["optional-dependencies"]["dicom"] if extra else project["dependencies"]
    assert sorted(line for line in lines if not line.startswith("#")) == sorted(packages)
    sizes = [line for line in lines if re.fullmatch(r"# \d+ MB", line)]
    assert len(sizes) == len(packages)


def test_the_entry_of_the_extension_index_agrees_with_cmake(repository):
    path = MODULE / "X-ray2CTPA.json"
    assert b"\r" not in path.read_bytes()
    entry = json.loads(path.read_text(encoding="utf-8"))
    assert set(entry) <= {"$schema", "build_dependencies", "category", "scm_revision", "scm_url", "tier"}
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    cmake = (repository / "CMakeLists.txt").read_text(encoding="utf-8")
    assert f"project({path.stem})" in cmake
    assert f'set(EXTENSION_CATEGORY "{entry["category"]}")' in cmake
    assert f'set(EXTENSION_DEPENDS "{" ".join(entry["build_dependencies"])}")' in cmake
    assert entry["scm_url"].rsplit("/", 1)[1].startswith("Slicer")


def test_the_readme_has_the_sections_that_the_index_asks_for(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    headings = ("## 3D Slicer", "### Tutorial", "## Safety and privacy", "## Licence and citation")
    for words in (*headings, "Sample Data", "Patents"):
        assert words in text, words
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (repository / picture).is_file(), picture


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda path: path.relative_to(MODULE.parent).as_posix())
def test_the_module_imports_what_slicer_ships_and_never_torch(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(node.module.split(".")[0])
    assert imported <= AT_IMPORT | sys.stdlib_module_names
    calls = [node for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    assert calls == [] or file.name == "__init__.py"


def test_what_the_module_takes_from_the_core_needs_nothing_but_slicer():
    """In a fresh interpreter: the parts of the core that the module imports bring none of its libraries."""
    parts = set()
    for file in SCRIPTS:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xray2ctpa_core"):
                parts.add(node.module)
    parts -= {"xray2ctpa_core"}  # from xray2ctpa_core import mrml: looked at in the core's own tests
    parts = {part for part in parts if not part.startswith("xray2ctpa_core.mrml")}
    code = f"import sys; [__import__(part) for part in {sorted(parts)!r}]; print(*sys.modules)"
    core = MODULE.parent / "X-ray2CTPACore"
    run = subprocess.run([sys.executable, "-c", code], cwd=core, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    heavy = {"torch", "diffusers", "monai", "nibabel", "huggingface_hub", "requests"}
    assert heavy & set(run.stdout.split()) == set()
