"""The page of ``xray2ctpa view``: a result in Slicer's own views, in a browser; needs the extra ``viewer``.

What is shown: ``stage`` lends an application with off-screen views, ``scene`` shows a result on it with its
``titles``, ``sight`` is the zoom and pan of a plane, ``probe`` reads voxels, ``renderings`` colours the
volume rendering and the colour bars, ``display`` is a visitor's choice, ``case`` reads what belongs to a
result (radiograph, truth), ``showing`` draws for the ``tabs`` that look; it keeps ``pictures`` of planes and
draws some ``ahead``.

Who sees it: ``session`` is all of one visitor, with his results on a ``shelf``; ``upload`` takes a radiograph
in, ``presets`` are the bundle's, ``run`` generates in another process, ``security`` says who may come in,
``server`` answers the browser with ``page``. trame-slicer gives the views; its own web server keeps one state
for every browser that connects, so the page is served by aiohttp, where each visitor has his own session.
"""
