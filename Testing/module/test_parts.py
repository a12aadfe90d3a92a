"""Parts of the module on their own: child process, settings, estimates, bundles, installer, sample."""

import hashlib
import importlib.metadata
import json
import os
import sys
import time
import types
from pathlib import Path

import io_radiographs as radiographs
import numpy as np
import psutil
import pytest
import slicer
from scenes import RECORD, radiograph_node

from xray2ctpa_core.cli.main import main
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.pipelines.bundle import PresetSteps


@pytest.fixture
def lib(app):
    """The module's package, imported in the application."""
    import XRay2CTPALib.Bundles
    import XRay2CTPALib.ChildProcess
    import XRay2CTPALib.CoreCommand
    import XRay2CTPALib.Estimates
    import XRay2CTPALib.Installer
    import XRay2CTPALib.Job
    import XRay2CTPALib.Logic
    import XRay2CTPALib.Sample
    import XRay2CTPALib.Settings

    return XRay2CTPALib


def started(lib, code):
    lines, errors = [], []
    process = lib.ChildProcess.ChildProcess(
        [sys.executable, "-c", code], os.environ, lines.append, errors.append
    )
    return process, lines, errors


def finish(process):
    end = time.monotonic() + 20
    while process.poll():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_lines_arrive_in_order_apart_from_errors_and_with_the_exit_code(lib):
    code = "import sys; print('a'); print('b'); print('e', file=sys.stderr); sys.exit(3)"
    process, lines, errors = started(lib, code)
    finish(process)
    assert (lines, errors, process.exitCode) == (["a", "b"], ["e"], 3)


@pytest.mark.skipif(os.name == "nt", reason="taskkill is tried on Windows")
def test_killing_a_launcher_kills_what_it_launched_at_once(lib):
    child = "import time; print(1, flush=True); time.sleep(60)"
    code = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {child!r}]))"
    process, lines, _errors = started(lib, code)
    while not lines:
        process.poll()
        time.sleep(0.01)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert len(family) == 2
    began = time.monotonic()
    process.kill()
    assert time.monotonic() - began < 5
    _gone, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    process.kill()  # a second time does nothing


def test_settings_are_flags_of_the_command_and_come_back_from_a_result(lib):
    settings = lib.Settings.RunSettings(bundle="b", steps=4, samples=2, seed=9, device="cpu", force=True)
    text = " ".join(settings.arguments())
    assert text == "--bundle b --seed 9 --device cpu --precision auto --steps 4 --samples 2 --force"
    assert "--steps" not in lib.Settings.RunSettings().arguments()
    node = slicer.vtkMRMLScalarVolumeNode()
    for name, value in settings.attributes().items():
        node.SetAttribute(name, value)
    again = lib.Settings.settingsOf(node, RECORD)
    assert (again.bundle, again.steps, again.samples, again.seed, again.force) == ("b", 7, 2, 42, True)
    assert (again.scheduler, again.precision) == ("dpm++", "fp32")


@pytest.mark.parametrize(
    ("preset", "numbers"), [("Preview", (3, 1)), ("Standard", (10, 2)), ("Reference", (50, 8))]
)
def test_presets_are_relative_to_the_bundles_own_numbers(lib, preset, numbers):
    assert lib.Settings.presetNumbers(preset, 10, 2) == numbers


@pytest.mark.parametrize(
    ("preset", "numbers"), [("Preview", (2, 1)), ("Standard", (6, 2)), ("Reference", (25, 8))]
)
def test_presets_follow_the_bundles_measured_curve(lib, preset, numbers):
    measured = PresetSteps(preview=2, standard=6, reference=25)
    assert lib.Settings.presetNumbers(preset, 10, 2, measured) == numbers


def test_a_run_tells_what_another_one_will_take(lib):
    record = json.loads(json.dumps(RECORD))
    # 7 steps and 2 samples took 14 s in the denoiser, 4 s in the decoder; 12 s besides.
    record["sampling"] |= {"seconds": {"load": 2.0, "denoise": 14.0, "decode": 4.0}, "peak_memory_mb": 2048.0}
    sha = record["bundle"]["sha256"]
    assert lib.Estimates.expected(sha, "auto", 7, 2) is None
    lib.Estimates.remember(record, 30.0, "auto")
    assert lib.Estimates.expected(sha, "auto", 7, 2).seconds == pytest.approx(30.0)
    # 12 s besides, 20 steps of 1 s, one sample of 2 s.
    assert lib.Estimates.expected(sha, "cpu", 20, 1).seconds == pytest.approx(34.0)
    assert lib.Estimates.expected(sha, "cuda", 20, 1) is None
    assert lib.Estimates.expected(sha, "cpu", 20, 1).text() == "about 34 s, 2.0 GB of memory"
    assert lib.Estimates.expected(sha, "cpu", 400, 1).text().startswith("about 7 min")


def test_bundles_are_listed_added_and_removed_and_the_list_outlives_the_session(
    lib, pipeline_bundle, tmp_path
):
    bundles = lib.Bundles.Bundles()
    [embedded] = bundles.all()
    assert embedded.source == "virtual-thorax"
    assert "DEMONSTRATION" in embedded.title
    assert 1 < embedded.megabytes < 100
    added = bundles.add(str(pipeline_bundle))
    assert added.info.name == "tiny"
    assert [bundle.source for bundle in lib.Bundles.Bundles().all()] == [
        "virtual-thorax",
        str(pipeline_bundle),
    ]
    bundles.add(str(pipeline_bundle))
    assert len(bundles.all()) == 2
    bundles.remove(str(pipeline_bundle))
    assert len(bundles.all()) == 1
    assert pipeline_bundle.is_dir()
    with pytest.raises(InputError, match="not there any more"):
        bundles.add(str(tmp_path / "nothing"))


def test_removing_a_bundle_of_the_hub_deletes_what_was_fetched(lib):
    bundles = lib.Bundles.Bundles()
    assert bundles.add("someone/chest@v1").info is None
    fetched = lib.CoreCommand.hubCacheFolder() / "models--someone--chest"
    other = fetched.with_name("models--someone--else")
    fetched.mkdir(parents=True)
    other.mkdir()
    bundles.remove("someone/chest@v1")
    assert not fetched.exists()
    assert other.is_dir()


def test_the_network_is_closed_to_the_child_unless_it_may_fetch(lib):
    assert lib.CoreCommand.coreEnvironment()["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in lib.CoreCommand.coreEnvironment(mayFetch=True)
    folders = lib.CoreCommand.coreEnvironment(bundleFolders=["one", "two"])["XRAY2CTPA_BUNDLES"]
    assert folders.split(os.pathsep)[:2] == ["one", "two"]


@pytest.fixture
def without(monkeypatch):
    """Lets packages seem to be missing."""
    real, missing = importlib.metadata.version, set()

    def version(name):
        if name in missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    return missing


def installer(lib):
    module = Path(lib.__file__).parents[1]
    return lib.Installer.Installer(module / "Resources" / "requirements.txt")


def test_nothing_is_missing_here_and_nobody_is_asked(lib, app):
    assert installer(lib).missing() == []
    assert installer(lib).install()
    assert app.dialogs.shown == []


def test_consent_comes_first_and_lists_packages_and_sizes(lib, app, without, monkeypatch):
    without |= {"torch", "monai"}
    calls = []
    monkeypatch.setattr(slicer.util, "pip_install", calls.append)
    app.dialogs.answer = False
    assert not installer(lib).install()
    [(_kind, text)] = app.dialogs.shown
    assert "torch>=2.5: 1180 MB" in text
    assert "monai>=1.4: 7 MB" in text
    assert "About 1187 MB" in text
    assert calls == []


def test_slicer_510_installs_with_pip_and_keeps_slicers_own_packages(lib, app, without, monkeypatch):
    without |= {"torch", "monai"}
    calls = []

    def pip_install(arguments):
        constraints = Path(arguments[arguments.index("--constraint") + 1]).read_text(encoding="utf-8")
        calls.append((arguments[2:], constraints))
        without.discard("monai")

    class Logic:
        def installTorch(self, **options):
            calls.append(options)
            without.discard("torch")
            return object()

    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=Logic))
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)  # not in 5.10
    assert installer(lib).install()
    torch_options, (packages, constraints) = calls
    assert torch_options == {"askConfirmation": False, "torchVersionRequirement": ">=2.5"}
    assert packages == ["monai>=1.4"]
    assert f"numpy=={importlib.metadata.version('numpy')}" in constraints
    assert f"SimpleITK=={importlib.metadata.version('SimpleITK')}" in constraints


def test_slicer_512_installs_with_its_own_packaging_and_asks_once(lib, app, without, monkeypatch):
    without |= {"monai"}
    calls = []

    def pip_ensure(requirements, **options):
        calls.append((requirements, options["prompt_install"], options["requester"]))
        without.clear()

    packaging = types.ModuleType("slicer.packaging")
    packaging.pip_ensure = pip_ensure
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setattr(slicer, "packaging", packaging, raising=False)
    assert installer(lib).install()
    assert calls == [(["monai>=1.4"], False, "X-ray2CTPA")]
    assert len(app.dialogs.shown) == 1


def test_offline_everything_comes_from_the_folder(lib, app, without, monkeypatch):
    without |= {"torch", "monai"}
    calls = []
    monkeypatch.setattr(slicer.util, "pip_install", calls.append)
    assert not installer(lib).install("/media/wheels"), "still missing: pip did nothing"
    [arguments] = calls
    assert arguments[2:] == ["--no-index", "--find-links", "/media/wheels", "torch>=2.5", "monai>=1.4"]
    assert "the network is not used" in app.dialogs.shown[0][1]


def test_without_the_pytorch_extension_the_way_to_it_is_said(lib, app, without, monkeypatch):
    without |= {"torch"}
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(InputError, match="PyTorch extension is not installed") as caught:
        installer(lib).install()
    assert "Extensions Manager" in caught.value.hint


def test_a_failure_of_pip_becomes_advice(lib, app, without, monkeypatch):
    without |= {"monai"}

    def pip_install(_arguments):
        raise RuntimeError("no route to host")

    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    with pytest.raises(InputError, match="no route to host") as caught:
        installer(lib).install()
    assert "folder of wheels" in caught.value.hint


def test_versions_compare_as_numbers(lib):
    assert lib.Installer._numbers("2.10.0+cu121") > lib.Installer._numbers("2.4")
    assert lib.Installer._numbers("2.4.1") >= lib.Installer._numbers("2.4")


@pytest.fixture
def sample_data(monkeypatch):
    """The logic of Sample Data as one version has it, and what it is called with."""

    def install(version):
        calls = []
        names = json.loads((Path(__file__).parent / "slicer_api.json").read_text())["SampleDataLogic"][
            version
        ]
        logic = type(
            "Logic", (), {n: staticmethod(lambda *a, n=n, **k: calls.append((n, a, k))) for n in names}
        )
        monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
        return calls

    return install


@pytest.mark.parametrize(("version", "has_category"), [("5.10", False), ("5.12", True)])
def test_the_sample_is_registered_at_start_up_of_every_version(lib, app, sample_data, version, has_category):
    import XRay2CTPA
    from XRay2CTPALib import Annotations

    calls, parent = sample_data(version), types.SimpleNamespace()
    XRay2CTPA.XRay2CTPA(parent)
    assert calls == [], "nothing before the application has started"
    assert "never a diagnosis" in parent.helpText
    assert "https://github.com/X-ray2CTPA/SlicerXRay2CTPA#3d-slicer" in parent.helpText
    assert "CITATION.cff" in parent.contributors[0]
    [started] = app.app.startup
    started()
    Annotations.stopWatching()
    assert [name for name, _a, _k in calls] == [
        *(["registerCustomSampleDataCategory"] if has_category else []),
        "registerCustomSampleDataSource",
    ]
    source = calls[-1][2]
    radiograph = lib.Sample.sampleFile()
    assert source["category"] == "X-ray2CTPA"
    assert source["uris"] == radiograph.as_uri()
    assert source["checksums"] == "SHA256:" + hashlib.sha256(radiograph.read_bytes()).hexdigest()
    assert Path(source["thumbnailFileName"]).is_file()


def test_the_self_test_needs_no_packages(lib, app, without):
    import XRay2CTPA

    without |= {"torch"}
    test = XRay2CTPA.XRay2CTPATest()
    test.runTest()
    assert "packages are missing" in test.message


@pytest.mark.parametrize(
    ("code", "hint", "words"),
    [
        (2, "Free some space or choose another place.", "Free some space"),
        (2, "Install the core with the extra that brings it: see its pyproject.toml.", "another radiograph"),
        (3, "Name it with --bundle.", "section Model"),
        (4, "Use --force to go on.", "Options has a way"),
        (5, "Close other programs, or choose another --device or --precision.", "fewer samples"),
        (2, "This is a defect: please report it with what XRAY2CTPA_DEBUG=1 shows.", "see the log"),
    ],
)
def test_hints_are_for_somebody_in_front_of_the_panel(lib, code, hint, words):
    text = lib.Job.hintFor(code, hint)
    assert words in text
    assert not any(mark in text for mark in lib.Job.COMMAND_LINE)


def test_a_question_that_fails_says_what_to_do_in_front_of_the_panel(lib):
    lines = [
        "Warning: slow disk",
        "Error: The model x is damaged.",
        "Fetch it again: xray2ctpa verify --repair.",
    ]
    text = lib.Question.errorText(3, lines)
    assert text.splitlines()[0] == "The model x is damaged."
    assert "section Model" in text
    assert "--repair" not in text
    assert (
        lib.Question.errorText(2, ["Error: No image.", "Export it as PNG."]) == "No image.\nExport it as PNG."
    )
    assert "See the log" in lib.Question.errorText(1, ["Segmentation fault"])


def test_progress_goes_on_by_time_never_back_and_never_to_the_end(lib, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(lib.Job.time, "monotonic", lambda: now[0])
    progress = lib.Job.Progress()
    progress.tick(90.0)
    assert progress.fraction is None, "nothing is known before sampling"
    progress.expect(30.0)  # 10 s done, 30 s to go
    progress.tick(90.0)
    assert (progress.fraction, progress.secondsLeft) == (pytest.approx(0.25), pytest.approx(30.0))
    now[0] = 120.0  # nothing was told for 20 s: decoding
    progress.tick(90.0)
    assert (progress.fraction, progress.secondsLeft) == (pytest.approx(0.75), pytest.approx(10.0))
    progress.expect(90.0)  # slower than thought
    progress.tick(90.0)
    assert progress.fraction == pytest.approx(0.75)
    now[0] = 300.0  # later than thought: no number of seconds is made up
    progress.tick(90.0)
    assert (progress.fraction, progress.secondsLeft) == (0.99, None)


def test_stages_are_named_without_temporary_paths(lib):
    assert lib.Job.stageText("read", "Reading /tmp/XRay2CTPA-1/input/0/a.png") == "Reading the radiograph"
    assert lib.Job.stageText("finish", "...") == "Decoding the volume and scoring it"
    assert lib.Job.stageText("new stage", "What the core says") == "What the core says"


def test_folders_of_a_slicer_that_crashed_are_removed_and_those_of_a_living_one_are_not(lib, app):
    dead, living = app.temporary / "XRay2CTPA-999999999-x", app.temporary / f"XRay2CTPA-{os.getppid()}-x"
    dead.mkdir()
    living.mkdir()
    folder = lib.Job.makeFolder()
    assert not dead.exists()
    assert living.is_dir()
    assert folder.name.startswith(f"XRay2CTPA-{os.getpid()}-")


def test_a_node_of_the_dicom_database_stands_for_its_file(lib, app, monkeypatch, tmp_path):
    from XRay2CTPALib.InputNode import sourceFile

    file = radiographs.write_dicom(tmp_path / "1.2.3", ImagerPixelSpacing=list(radiographs.SPACING))
    node = slicer.util.loadVolume(str(file))
    node.SetAndObserveStorageNodeID(None)
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    assert sourceFile(node) is None, "without a database"
    database = types.SimpleNamespace(fileForInstance={"1.2.3": str(file)}.get)
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    assert sourceFile(node) == file
    written = lib.Job.writeInput(node, tmp_path / "input")
    assert written.read_bytes() == file.read_bytes()
    slicer.util.arrayFromVolume(node)[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(node)
    assert sourceFile(node) is None, "the node was changed since"


def test_file_names_are_short_and_plain_whatever_the_node_is_called(lib, app, tmp_path):
    from XRay2CTPALib.InputNode import writeInput

    for number, (name, expected) in enumerate(
        [
            ("4: PA/\u0442 view", "4_PA_view.nrrd"),
            ("\u0444\u043e\u0442\u043e", "radiograph.nrrd"),
            ("a" * 300, "a" * 60 + ".nrrd"),
        ]
    ):
        file = writeInput(radiograph_node(app.scene, name=name), tmp_path / str(number))
        assert file.name == expected


def test_a_sequence_is_a_batch_of_its_nodes(lib, app):
    sequence = slicer.vtkMRMLSequenceNode()
    app.scene.AddNode(sequence)
    for number in range(3):
        sequence.SetDataNodeAtValue(radiograph_node(app.scene, name=f"radiograph {number}"), str(number))
    assert len(lib.Logic._nodesOf(sequence)) == 3


def test_the_check_command_refuses_stripes_in_words_with_exit_code_4(lib, app, tmp_path, capsys):
    stripes = radiograph_node(app.scene)
    slicer.util.arrayFromVolume(stripes)[:] = (np.arange(100) % 20 * 12).astype(np.uint8)
    from XRay2CTPALib.InputNode import writeInput

    file = writeInput(stripes, tmp_path / "input")
    assert main(["check", str(file)]) == 4
    text = capsys.readouterr().out
    assert "radiograph.nrrd: refused as a frontal chest radiograph" in text
    assert main(["check", str(file), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["gate"]["accepted"] is False
    assert answer["gate"]["warnings"] != []


def test_the_system_command_names_the_cpu_and_its_free_memory(capsys):
    assert main(["system", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    [cpu] = [device for device in content["devices"] if device["device"] == "cpu"]
    assert cpu["free_memory_mb"] == pytest.approx(psutil.virtual_memory().available / 2**20, rel=0.2)
    assert content["software"]["torch"] == importlib.metadata.version("torch")
    assert main(["system"]) == 0
    assert "cpu:" in capsys.readouterr().out
