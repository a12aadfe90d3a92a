"""The page generates with a converted bundle: whole radiograph, no atlas, perhaps no PE classifier."""

import hashlib
import io
import json
import zipfile

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("trame_slicer")

from io_radiographs import radiograph_png
from published_system import CONFIGURATIONS, converted_bundle, three_radiographs
from visitors import served, visiting

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["whole", "without classifier"])
def test_a_converted_bundle_goes_from_upload_to_a_shown_result(tmp_path, converted, kind):
    with served(tmp_path / "temporary", "--bundle", converted[kind]) as page:

        async def visit(visitor):
            assert (await visitor.upload(radiograph_png(), "radiograph.png"))[0] == 200
            await visitor.phase("checking")
            await visitor.phase("ready", "empty")
            assert visitor.state["phase"] == "ready", visitor.state["message"]
            await visitor.do("generate", steps=2, samples=2, seed=7, force=True)
            await visitor.phase("running")
            await visitor.phase("done", "ready", "empty")
            assert visitor.state["phase"] == "done", visitor.state["message"]
            result = visitor.state["result"]
            has_score = kind == "whole"
            assert (result["pe"]["probability"] is not None) == has_score
            assert ("no PE classifier" in result["scores"][0]) != has_score
            await visitor.do("triage")
            await visitor.until(lambda: "triage" in visitor.told)
            said = visitor.told["triage"]
            assert said["headline"] == "Wells 0. Next: measure D-dimer."
            assert ("no PE classifier" in said["beside"][0]) != has_score
            for view in visitor.state["views"]:
                picture = await visitor.picture(view["name"], 200, 200)
                assert picture.std() > 1, view["name"]
            if not has_score:
                await visitor.do("hottest")
                await visitor.until(lambda: visitor.problems)
                assert "no slice is hottest" in visitor.problems[0]
            async with visitor.session.get(f"{visitor.address}result.zip") as answer:
                archive = zipfile.ZipFile(io.BytesIO(await answer.read()))
            record = json.loads(archive.read("SYNTHETIC-radiograph-ctpa/result.json"))
            assert record["bundle"]["name"] == "converted"
            assert record["geometry"]["shape"] == [16, 64, 64]

        visiting(page.address, visit)


@pytest.mark.real
@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=["paper", "narrow", "two-levels"])
def test_three_real_radiographs_become_three_results_on_the_page(tmp_path, configuration, real_data):
    bundle = converted_bundle(tmp_path / "made", **configuration)
    with served(tmp_path / "temporary", "--bundle", bundle) as page:

        async def visit(visitor):
            digests = []
            for file in three_radiographs(real_data):
                assert (await visitor.upload(file.read_bytes(), file.name))[0] == 200
                await visitor.phase("checking")
                await visitor.phase("ready")
                await visitor.do("generate", steps=2, samples=1, seed=7, force=True)
                await visitor.phase("running")
                await visitor.phase("done")
                async with visitor.session.get(f"{visitor.address}result.zip") as answer:
                    archive = zipfile.ZipFile(io.BytesIO(await answer.read()))
                (volume,) = [name for name in archive.namelist() if name.endswith("/ctpa.nii.gz")]
                digests.append(hashlib.sha256(archive.read(volume)).hexdigest())
            assert len(set(digests)) == 3

        visiting(page.address, visit)
