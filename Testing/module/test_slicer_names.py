"""Every name of Slicer, Qt and CTK that the module uses exists: read from its code and its .ui file.

slicer_api.json holds what Slicer's and CTK's headers declare for scripts, with the commits they were read at,
and what of it the trees of 5.10 and 5.12 lack ("absent"); MRML and VTK classes are looked up in slicer-core
and vtk, Qt's in PySide6.
"""

import ast
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

MODULE = Path(__file__).resolve().parents[2] / "X-ray2CTPA"
READER_STUDY = MODULE.parent / "X-ray2CTPAReaderStudy"
UI_FILES = [*MODULE.rglob("*.ui"), *READER_STUDY.rglob("*.ui")]
FILES = sorted([*MODULE.rglob("*.py"), *READER_STUDY.rglob("*.py")])
API = json.loads((Path(__file__).parent / "slicer_api.json").read_text(encoding="utf-8"))
QT = (QtCore, QtGui, QtWidgets)
#: Real slicer-core, before any test puts stand-ins into it.
CORE_NAMES = frozenset(name for name in dir(slicer) if name.startswith("vtk"))


def qt_class(name: str) -> type | None:
    return next((getattr(part, name) for part in QT if hasattr(part, name)), None)


def chain(node: ast.AST) -> list[str]:
    """``slicer.app.layoutManager().x`` -> ["slicer", "app", "layoutManager()", "x"]; else []."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        before = chain(node.value)
        return [*before, node.attr] if before else []
    if isinstance(node, ast.Call):
        before = chain(node.func)
        return [*before[:-1], f"{before[-1]}()"] if before else []
    return []


def chains(tree: ast.AST, *beginnings: str) -> Iterator[tuple[int, list[str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names = chain(node)
            if names and names[0] in beginnings:
                yield node.lineno, names


def members(class_name: str) -> set[str]:
    """Properties and methods of a class of Slicer, CTK or Qt, inherited ones too."""
    if class_name in API["classes"]:
        own = API["classes"][class_name]
        return {*own["properties"], *own["methods"]} | members(API["inherits"].get(class_name, "QObject"))
    cls = qt_class(class_name)
    assert cls is not None, f"no class {class_name}"
    return set(dir(cls)) | properties(class_name)


def properties(class_name: str) -> set[str]:
    if class_name in API["classes"]:
        parent = API["inherits"].get(class_name, "QObject")
        return set(API["classes"][class_name]["properties"]) | properties(parent)
    meta = qt_class(class_name).staticMetaObject
    return {meta.property(index).name() for index in range(meta.propertyCount())}


def signals(class_name: str) -> set[str]:
    if class_name in API["classes"]:
        return set(API["classes"][class_name]["signals"]) | signals(
            API["inherits"].get(class_name, "QObject")
        )
    meta = qt_class(class_name).staticMetaObject
    methods = [meta.method(index) for index in range(meta.methodCount())]
    kind = QtCore.QMetaMethod.MethodType.Signal
    return {bytes(m.methodSignature()).decode() for m in methods if m.methodType() == kind}


#: What slicer.app.layoutManager() and the views it leads to are.
LEADS_TO = {
    "layoutManager()": "qMRMLLayoutManager",
    "sliceWidget()": "qMRMLSliceWidget",
    "threeDWidget()": "qMRMLThreeDWidget",
    "sliceView()": "qMRMLSliceView",
    "threeDView()": "qMRMLThreeDView",
}


def unknown_slicer_name(names: list[str]) -> str | None:
    """The first part of a chain from ``slicer`` that does not exist."""
    first = names[1].removesuffix("()")
    if first.startswith("vtk"):
        return None if first in CORE_NAMES else first
    if first not in API["slicer"]:
        return first
    if len(names) < 3:
        return None
    second = names[2].removesuffix("()")
    if first in ("util", "packaging", "i18n"):
        return None if second in API["modules"][f"slicer.{first}"] else second
    if first == "app":
        if second not in members("qSlicerApplication"):
            return second
        holder = LEADS_TO.get(names[2])
        for name in names[3:]:
            if holder is None:
                return None
            if name.removesuffix("()") not in members(holder):
                return name
            holder = LEADS_TO.get(name)
    return None


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_name_of_slicer_exists(file):
    found = [(line, ".".join(names)) for line, names in chains(tree_of(file), "slicer")
             if unknown_slicer_name(names)]  # fmt: skip
    assert found == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_import_from_slicer_exists(file):
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "slicer":
            known = API["modules"].get(node.module, CORE_NAMES)
            assert {alias.name for alias in node.names} <= set(known), node.lineno


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_name_of_qt_and_vtk_exists(file):
    for line, names in chains(tree_of(file), "qt", "vtk", "ctk"):
        plain = [name.removesuffix("()") for name in names]
        if plain[0] == "vtk":
            assert hasattr(vtk, plain[1]), line
            continue
        assert plain[0] == "qt", f"{line}: ctk is used in the .ui file only"
        cls = qt_class(plain[1])
        assert cls is not None, f"{line}: qt.{plain[1]}"
        if len(plain) > 2:
            assert hasattr(cls, plain[2]), f"{line}: qt.{plain[1]}.{plain[2]}"


def test_the_name_test_sees_wrong_names():
    names = ("utl.x", "util.loadVolum()", "vtkMRMLFooNode()", "app.layoutManager().sliceWidge('a')")
    wrong = "\n".join(f"slicer.{name}" for name in names)
    found = [names for _line, names in chains(ast.parse(wrong), "slicer") if unknown_slicer_name(names)]
    assert {names[-1].removesuffix("()") for names in found} >= {"loadVolum", "vtkMRMLFooNode", "sliceWidge"}


def all_of(tag: str) -> Iterator[ElementTree.Element]:
    """Every element of a kind in the .ui files of both modules."""
    for file in UI_FILES:
        yield from ElementTree.parse(file).iter(tag)


def widgets() -> dict[str, str]:
    """Name -> class of every widget of the .ui file."""
    return {w.get("name"): w.get("class") for w in all_of("widget")}


def test_widget_classes_and_properties_of_the_ui_file_exist():
    for widget in all_of("widget"):
        name, cls = widget.get("name"), widget.get("class")
        assert cls in API["classes"] or qt_class(cls), f"{name}: {cls}"
        for entry in widget.findall("property"):
            # A label's buddy is no property of Qt's, but known to every loader of .ui files.
            if entry.get("stdset") != "0" and entry.get("name") != "buddy":
                assert entry.get("name") in properties(cls), f"{name}: {cls}.{entry.get('name')}"


def test_the_ui_files_connections_are_between_signals_and_slots_that_exist():
    named = widgets()
    for connection in all_of("connection"):
        sender, receiver = named[connection.findtext("sender")], named[connection.findtext("receiver")]
        assert connection.findtext("signal") in signals(sender)
        assert connection.findtext("slot").split("(")[0] in members(receiver)


def ui_uses(file: Path) -> Iterator[tuple[int, str, str]]:
    """(line, widget, member) of every ``ui.widget.member`` in a file, whatever ``ui`` is kept in."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Attribute):
            names = chain(node)
            for prefix in (["ui"], ["self", "ui"], ["self", "_ui"]):
                if names[: len(prefix)] == prefix and len(names) >= len(prefix) + 2:
                    yield node.lineno, names[len(prefix)], names[len(prefix) + 1].removesuffix("()")


def test_the_code_uses_widgets_that_exist_and_what_they_have():
    named = widgets()
    uses = [(file.name, *use) for file in FILES for use in ui_uses(file)]
    assert len(uses) > 60
    for file, line, widget, member in uses:
        assert widget in named, f"{file}:{line}: no widget {widget}"
        assert member == "connect" or member in members(named[widget]), f"{file}:{line}: {widget}.{member}"


def test_the_code_connects_to_signals_that_exist():
    named, count = widgets(), 0
    for file in FILES:
        for node in ast.walk(tree_of(file)):
            is_connect = isinstance(node, ast.Call) and chain(node.func)[-1:] == ["connect"]
            if is_connect and isinstance(node.args[0], ast.Constant):
                target, signal = chain(node.func)[-2], node.args[0].value
                cls = {
                    "app": "qSlicerApplication",
                    "_timer": "QTimer",
                    "box": "QCheckBox",
                    "radio": "QRadioButton",
                }.get(target) or named[target]
                assert signal in signals(cls), f"{file.name}:{node.lineno}: {cls} has no {signal}"
                count += 1
    assert count >= 20


def test_every_widget_of_the_ui_file_is_used_or_a_caption():
    used = {widget for file in FILES for _line, widget, _member in ui_uses(file)}
    tied = {
        widget.get("name")
        for widget in all_of("widget")
        if any(entry.get("name") == "SlicerParameterName" for entry in widget.findall("property"))
    }
    sections = {name for name in widgets() if name.endswith(("Caption", "CollapsibleButton", "GroupBox"))}
    assert set(widgets()) - used - tied - sections == {"XRay2CTPA", "XRay2CTPAReaderStudy"}


@pytest.mark.parametrize("version", ["5.10", "5.12"])
def test_what_a_supported_slicer_lacks_is_used_nowhere_without_a_fallback(version):
    lacking = {name.split("(")[0] for name in API["absent"][version]}
    assert ("slicer.packaging" in lacking) == (version == "5.10")
    for file in FILES:
        for node in tree_of(file).body:
            text = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom) else ""
            assert not any(name in text for name in lacking), file.name
        used = {".".join(names).replace("()", "") for _line, names in chains(tree_of(file), "slicer")}
        guarded = "except ImportError" in file.read_text(encoding="utf-8")
        for name in lacking & used:
            assert guarded, f"{file.name}: {name} is not in {version}"
            assert name == "slicer.packaging"
        for _line, widget, member in ui_uses(file):
            assert f"{widgets().get(widget)}.{member}" not in lacking, f"{file.name}: {widget}.{member}"


def test_the_dicom_database_is_asked_for_what_it_has():
    cls, uses = API["classes"]["ctkDICOMDatabase"], 0
    for file in FILES:
        for line, names in chains(tree_of(file), "database", "self"):
            at = [place for place, name in enumerate(names[:-1]) if name in ("database", "_database")]
            for place in at:
                member = names[place + 1].removesuffix("()")
                assert member in {*cls["methods"], *cls["properties"]}, f"{file.name}:{line}: {member}"
                uses += 1
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.ImportFrom) and node.module == "DICOMLib":
                assert {alias.name for alias in node.names} <= set(API["modules"]["DICOMLib"])
    assert uses >= 5


@pytest.mark.parametrize("version", ["5.10", "5.12"])
def test_sample_data_is_asked_only_for_what_it_has(version):
    text = (MODULE / "XRay2CTPALib" / "Sample.py").read_text(encoding="utf-8")
    used = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
    used = {name for name in used if name.startswith("register")}
    assert used == {"registerCustomSampleDataCategory", "registerCustomSampleDataSource"}
    for name in used - set(API["SampleDataLogic"][version]):
        assert f'hasattr(logic, "{name}")' in text, f"{name} is not in {version}"


def test_every_control_has_a_tooltip_and_every_button_a_letter_or_a_reason_not_to():
    letters = []
    buddies = {b.findtext("cstring") for b in all_of("property") if b.get("name") == "buddy"}
    controls = ("QPushButton", "QToolButton", "QCheckBox", "QComboBox", "QSpinBox", "ctkSliderWidget",
                "qMRMLNodeComboBox", "QLineEdit", "QTableWidget", "QPlainTextEdit")  # fmt: skip
    for widget in all_of("widget"):
        values = {p.get("name"): "".join(p.itertext()).strip() for p in widget.findall("property")}
        name = widget.get("name")
        if widget.get("class") in controls:
            assert values.get("toolTip"), f"{name} has no tooltip"
        if widget.get("class") in ("QComboBox", "QSpinBox", "ctkSliderWidget") and name != "bundleSelector":
            assert name in buddies, f"{name} has no caption with a letter"
        letters += re.findall(r"&(\w)", values.get("text", ""))
    assert len(letters) > 20


def test_no_text_of_the_panel_is_left_untranslated():
    """Texts that are set in code go through tr; those of the .ui file are translated by the loader."""
    for file in FILES:
        for node in ast.walk(tree_of(file)):
            is_text = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)
            if is_text and node.targets[0].attr in ("text", "toolTip", "title", "helpText", "windowTitle"):
                value = node.value
                plain = isinstance(value, ast.Constant) and re.search(r"[A-Za-z]{3}", str(value.value))
                assert not plain, f"{file.name}:{node.lineno}: {ast.unparse(node)}"
