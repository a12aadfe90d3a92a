"""What the module does, without its panel: runs, checks, batches, repetitions."""

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

#: Milliseconds between two looks at what the child processes have told.
POLL_MS = 100


class RunFailed(RuntimeError):
    """A blocking run gave no result; ``failures`` say why and what to do, ``log`` holds all that was told."""

    def __init__(self, failures: Sequence[Failure], log: str) -> None:
        super().__init__("\n".join(failure.text() for failure in failures))
        self.failures = list(failures)
        self.log = log


class RunLogic(VTKObservationMixin):
    """Starts the core on nodes of the scene; one run at a time.

    Attributes:
        job: the run now, or the last one; None before the first.
        bundles: what a run can be made with.
        batch: the list of radiographs for a batch, and its run.
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
        """Whether a run or a batch is going on."""
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
        """Generates a CTPA from a chest X-ray, or from each of several.

        Args:
            cxrNode: a volume node with one slice; a list of them or a vtkMRMLSequenceNode makes a batch.
            settings: how; or, instead, fields of RunSettings as ``options`` (``steps=4, seed=7``).
            wait: whether to return when it has ended; events are processed meanwhile.
            onChanged: called with the job whenever there is news.
            mayFetch: whether a bundle named by its Hub id may be fetched.
            outputFolder: an existing folder that gets a result's files as well; "": none.

        Returns:
            With ``wait``: ResultNodes (a list of them for a batch). Without: the Job.

        Raises:
            InputError: a node cannot be used; a run is going on already; both settings and options.
            OutputError: a node cannot be written.
            RunFailed: with ``wait``, if it failed or was cancelled; for a batch only if there is no result.
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
        """Works ``batch`` off into the folder ``output``; raises the errors of its ``start``."""
        if self.isRunning:
            raise InputError(_("A run is going on."), _("Wait for it, or cancel it first."))
        mayFetch = mayFetch and isHubId(settings.bundle)
        self.batch.start(settings, Path(output), onChanged, mayFetch, self.bundles.folders())
        atexit.register(self.cancel)
        self._startPolling()

    def runAgain(self, ctpaNode: Any, **how: Any) -> Any:
        """Repeats the run that made ``ctpaNode``, from the X-ray it refers to; arguments as ``process``.

        Raises:
            InputError: the node is no result, its X-ray is no longer in the scene, or its bundle is no
                longer the same.
        """
        nodes = mrml.result_of(ctpaNode)
        if nodes is None:
            raise InputError(_("Select a generated CTPA; this is none."))
        radiograph = ctpaNode.GetNodeReference(mrml.RADIOGRAPH_REFERENCE)
        if radiograph is None:
            raise InputError(
                _("The X-ray {name} is no longer in the scene.").format(name=nodes.record["input"]["name"]),
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
        """Asks what the input gate says of ``cxrNode``; the answer's content holds ``gate`` and ``input``.

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
        """Adds a result to Slicer's DICOM database, as series in the study of its X-ray, marked SYNTHETIC.

        Raises:
            InputError: the node is no result; the database is not open.
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
        """Asks what this machine computes with: versions, devices, free memory."""
        return self._ask(["system", "--json"], onAnswer)

    def measure(
        self, settings: RunSettings, steps: int, onAnswer: Callable[[Question], None] | None = None
    ) -> Question:
        """Runs ``steps`` steps on the sample X-ray; what they took is kept for estimates, nothing else."""
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
        """Asks whether every file of a bundle is intact."""
        return self._ask(["verify", bundle], onAnswer)

    def cancel(self) -> None:
        """Ends the run at once; nothing of it is left."""
        if self._hasJob:
            self.job.cancel()
        self.batch.cancel()
        self._release()

    def shutDown(self) -> None:
        """Ends the run and every question: the application closes, or the module is reloaded."""
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
        if self._hasJob:  # a batch needs nothing of the scene any more
            self.job.cancel()

    def _startPolling(self) -> None:
        if self._timer is None:
            self._timer = qt.QTimer()
            self._timer.setInterval(POLL_MS)
            self._timer.connect("timeout()", self._poll)
        self._timer.start()

    def _poll(self) -> None:
        """Looks at everything that goes on; stops itself when nothing does."""
        if self._hasJob:
            self.job.poll()
        self.batch.poll()
        for question in list(self._questions):  # an answer may lead to the next question
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
    """Whether ``bundle`` names a place on the Hub, with a revision."""
    match = HUB_ID.fullmatch(bundle)
    return match is not None and match["revision"] is not None


def _isSequence(node: Any) -> bool:
    return hasattr(node, "GetNthDataNode")


def _nodesOf(cxrNode: Any) -> list[Any]:
    """The single nodes; raises InputError with the reason for the first that cannot be used."""
    if _isSequence(cxrNode):
        nodes = [cxrNode.GetNthDataNode(number) for number in range(cxrNode.GetNumberOfDataNodes())]
    else:
        nodes = list(cxrNode) if isinstance(cxrNode, (list, tuple)) else [cxrNode]
    if not nodes:
        raise InputError(_("Expected at least one chest X-ray, got none."))
    for node in nodes:
        reason = whyUnusable(node)
        if reason:
            raise InputError(reason)
    return nodes
