"""The page of ``xray2ctpa view``: a result in Slicer's own views, in a browser; needs the extra ``viewer``.

Display: ``stage`` provides an application with off-screen views, in which ``scene`` shows a result with its
``titles``; ``sight`` is the zoom and pan of a plane, ``probe`` reads voxels, ``renderings`` colours the
volume rendering and the colour bars, ``display`` holds a visitor's settings, ``case`` reads the radiograph
and the true CTPA of a result, ``words`` its record. ``showing`` draws for the ``tabs`` of a visitor; it keeps
``pictures`` of planes and draws some ``ahead``.

Visitors: ``session`` is the state of one visitor, with his results on a ``shelf``; ``upload`` receives a
radiograph, ``presets`` are those of the bundle, ``run`` generates in another process, ``security`` admits
visitors, ``server`` serves ``page``. The views are those of trame-slicer, whose own web server has one state
for all browsers; the page is therefore served by aiohttp, with a session for each visitor.
"""
