"""The module's logic without the panel: runs, checks, batches, repetitions."""

import atexit
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from xray2ctpa_core import mrml
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.pipelines.loading import HUB_ID

from . import Estimates
from .Batch import Batch
from .Bundles import Bundles
from .DicomBack import DicomBack
from .InputNode import whyUnusable, writeInput
from .Job import RUNNING, Failure, Job, makeFolder, removeFolder
from .Question import Question
from .Sample import sampleFile
from .Settings import RunSettings, settingsOf

#: Milliseconds between two polls of the child processes.
POLL_MS = 100


class RunFailed(RuntimeError):
    """A blocking run gave no result; ``failures`` hold reasons and hints, ``log`` the complete output."""

    def __init__(self, failures: Sequence[Failure], log: str) -> None:
        super().__init__("\n".join(failure.text() for failure in failures))
        self.failures = list(failures)
        self.log = log


class RunLogic(VTKObservationMixin):
    """Starts the core for nodes of the scene; one run at a time.

    Attributes:
        job: the present run, or the last one; None before the first.
        bundles: the list of bundles.
        batch: the list of radiographs of a batch, and its run.
    """

    def __init__(self) -> None:
        VTKObservationMixin.__init__(self)
        self.job: Job | None = None
        self.bundles = Bundles()
        self.batch = Batch()
        self._questions: list[Question] = []
        self._timer: Any = None

    @property
    def isRunning(self) -> bool:
        """Whether a run or a batch is under way."""
        return self._hasJob or self.batch.isRunning

    @property
    def _hasJob(self) -> bool:
        return self.job is not None and self.job.state == RUNNING

    def process(
        self,
        cxrNode: Any,
        settings: RunSettings | None = None,
        wait: bool = True,
        onChanged: Callable[[Job], None] | None = None,
        mayFetch: bool = False,
        outputFolder: str = "",
        **options: Any,
    ) -> Any:
        """Generates a CTPA from a chest radiograph, or from each of several.

        Args:
            cxrNode: a volume node with one slice; a list of them or a vtkMRMLSequenceNode makes a batch.
            settings: of the run; or, instead, fields of RunSettings as ``options`` (``steps=4, seed=7``).
            wait: whether to return only at the end; events are processed meanwhile.
            onChanged: called with the job after each change.
            mayFetch: whether a bundle named by its Hub id may be fetched.
            outputFolder: an existing folder to which a result's files are also copied; "" for none.

        Returns:
            With ``wait``: ResultNodes (a list of them for a batch). Without: the Job.

        Raises:
            InputError: a node cannot be used; a run is under way; both settings and options are given.
            OutputError: a node cannot be written.
            RunFailed: with ``wait``, if the run failed or was cancelled; for a batch only if there is no
                result.
        """
        if self.isRunning:
            raise InputError(_("A run is going on."), _("Wait for it, or cancel it first."))
        if settings is not None and options:
            raise InputError(_("Expected settings or single options, got both."))
        settings = settings or RunSettings(**options)
        nodes = _nodesOf(cxrNode)
        isBatch = isinstance(cxrNode, (list, tuple)) or _isSequence(cxrNode)
        self.job = Job(
            nodes,
            settings,
            slicer.mrmlScene,
            mayFetch and isHubId(settings.bundle),
            self.bundles.folders(),
            onChanged,
            outputFolder,
        )
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._onSceneStartClose)
        atexit.register(self.cancel)
        if not wait:
            self._startPolling()
            return self.job
        job = self.job
        job.wait(slicer.app.processEvents)
        self._release()
        if not job.results or (job.failures and not isBatch):
            failures = job.failures or [Failure(_("The run was cancelled."))]
            raise RunFailed(failures, job.logText())
        return job.results if isBatch else job.results[0]

    def startBatch(
        self, settings: RunSettings, output: str, onChanged: Callable[[], None], mayFetch: bool = False
    ) -> None:
        """Processes ``batch`` into the folder ``output``; raises the errors of its ``start``."""
        if self.isRunning:
            raise InputError(_("A run is going on."), _("Wait for it, or cancel it first."))
        mayFetch = mayFetch and isHubId(settings.bundle)
        self.batch.start(settings, Path(output), onChanged, mayFetch, self.bundles.folders())
        atexit.register(self.cancel)
        self._startPolling()

    def runAgain(self, ctpaNode: Any, **how: Any) -> Any:
        """Repeats the run that made ``ctpaNode``, with the radiograph to which it refers; arguments as
        ``process``.

        Raises:
            InputError: the node is no result, its radiograph is no longer in the scene, or its bundle has
                changed.
        """
        nodes = mrml.result_of(ctpaNode)
        if nodes is None:
            raise InputError(_("Select a generated CTPA; this is none."))
        radiograph = ctpaNode.GetNodeReference(mrml.RADIOGRAPH_REFERENCE)
        if radiograph is None:
            raise InputError(
                _("{name} is no longer in the scene.").format(name=nodes.record["input"]["name"]),
                _("Load it again and generate with seed {seed}.").format(
                    seed=nodes.record["sampling"]["seed"]
                ),
            )
        settings, wanted = settingsOf(ctpaNode, nodes.record), nodes.record["bundle"]
        bundle = self.bundles.find(settings.bundle)
        if bundle.problem or (bundle.info is not None and bundle.info.sha256 != wanted["sha256"]):
            raise InputError(
                bundle.problem
                or _("The model {name} has changed since; it would give other voxels.").format(
                    name=bundle.info.name
                ),
                _("Add model {name} {version} again, SHA-256 {sha}.").format(
                    name=wanted["name"], version=wanted["version"], sha=wanted["sha256"]
                ),
            )
        return self.process(radiograph, settings, **how)

    def check(
        self, cxrNode: Any, bundle: str, onAnswer: Callable[[Question], None] | None = None
    ) -> Question:
        """Asks the input gate about ``cxrNode``; the answer's content holds ``gate`` and ``input``.

        Raises:
            InputError: the node cannot be used.
        """
        reason = whyUnusable(cxrNode)
        if reason:
            raise InputError(reason)
        folder = makeFolder()
        try:
            file = writeInput(cxrNode, folder / "input")
            return self._ask(["check", str(file), "--bundle", bundle, "--json"], onAnswer, folder=folder)
        except BaseException:
            removeFolder(folder)
            raise

    def toDicom(self, ctpaNode: Any, onAnswer: Callable[[DicomBack], None] | None = None) -> DicomBack:
        """Adds a result to Slicer's DICOM database, as series in the study of its radiograph, marked
        SYNTHETIC.

        Raises:
            InputError: the node is no result, or the database is not open.
            OutputError: nothing can be written.
        """
        nodes = mrml.result_of(ctpaNode)
        if nodes is None:
            raise InputError(_("Select a generated CTPA; this is none."))
        back = DicomBack(nodes, onAnswer)
        self._questions.append(back)
        self._startPolling()
        return back

    def system(self, onAnswer: Callable[[Question], None] | None = None) -> Question:
        """Asks for versions, devices and free memory of this machine."""
        return self._ask(["system", "--json"], onAnswer)

    def measure(
        self, settings: RunSettings, steps: int, onAnswer: Callable[[Question], None] | None = None
    ) -> Question:
        """Runs ``steps`` steps on the sample radiograph; only their time and memory are kept, for
        estimates."""
        folder, began = makeFolder(), time.monotonic()
        settings = dataclasses.replace(settings, steps=steps, samples=1)

        def answered(question: Question) -> None:
            if question.succeeded:
                seconds = time.monotonic() - began
                Estimates.remember(question.content["result"], seconds, settings.device)
            if onAnswer is not None:
                onAnswer(question)

        arguments = ["generate", str(sampleFile()), "--out", str(folder / "result"), "--events"]
        return self._ask([*arguments, *settings.arguments()], answered, folder=folder)

    def verify(self, bundle: str, onAnswer: Callable[[Question], None] | None = None) -> Question:
        """Asks whether all files of a bundle are intact."""
        return self._ask(["verify", bundle], onAnswer)

    def cancel(self) -> None:
        """Ends the run at once; nothing of it remains."""
        if self._hasJob:
            self.job.cancel()
        self.batch.cancel()
        self._release()

    def shutDown(self) -> None:
        """Ends the run and all questions, because the application closes or the module is reloaded."""
        for question in self._questions:
            question.cancel()
        self._questions = []
        self.cancel()

    def _ask(self, arguments: list[str], onAnswer: Any, folder: Any = None) -> Question:
        question = Question(arguments, onAnswer, bundleFolders=self.bundles.folders(), folder=folder)
        self._questions.append(question)
        self._startPolling()
        return question

    def _onSceneStartClose(self, _caller: Any, _event: Any) -> None:
        if self._hasJob:  # a batch no longer depends on the scene
            self.job.cancel()

    def _startPolling(self) -> None:
        if self._timer is None:
            self._timer = qt.QTimer()
            self._timer.setInterval(POLL_MS)
            self._timer.connect("timeout()", self._poll)
        self._timer.start()

    def _poll(self) -> None:
        """Polls runs, batch and questions; stops itself when none is under way."""
        if self._hasJob:
            self.job.poll()
        self.batch.poll()
        for question in list(self._questions):  # an answer may start the next question
            question.poll()
        self._questions = [question for question in self._questions if not question.ended]
        if not self.isRunning:
            self._release()

    def _release(self) -> None:
        if self.isRunning:
            return
        atexit.unregister(self.cancel)
        scene = slicer.mrmlScene
        if self.hasObserver(scene, scene.StartCloseEvent, self._onSceneStartClose):
            self.removeObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        if self._timer is not None and not self._questions:
            self._timer.stop()


def isHubId(bundle: str) -> bool:
    """Whether ``bundle`` is a Hub id with a revision."""
    match = HUB_ID.fullmatch(bundle)
    return match is not None and match["revision"] is not None


def _isSequence(node: Any) -> bool:
    return hasattr(node, "GetNthDataNode")


def _nodesOf(cxrNode: Any) -> list[Any]:
    """The nodes as a list; raises InputError with the reason for the first that cannot be used."""
    if _isSequence(cxrNode):
        nodes = [cxrNode.GetNthDataNode(number) for number in range(cxrNode.GetNumberOfDataNodes())]
    else:
        nodes = list(cxrNode) if isinstance(cxrNode, (list, tuple)) else [cxrNode]
    if not nodes:
        raise InputError(_("Expected at least one chest radiograph, got none."))
    for node in nodes:
        reason = whyUnusable(node)
        if reason:
            raise InputError(reason)
    return nodes
