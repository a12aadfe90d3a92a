"""The page of ``xray2ctpa view``: a result in Slicer's own views, in a browser; needs the extra ``viewer``.

``scene`` renders a result off screen with its ``labels``, ``display`` is what a visitor has chosen to see,
``showing`` draws for the ``tabs`` that look, ``case`` reads what belongs to a result (film, truth), ``run``
generates in a process of its own, ``upload`` takes a film in, ``session`` is one visitor's all of it,
``security`` says who may come in, ``server`` answers the browser with
``page``. trame-slicer gives the views; its own web server keeps one state for every browser that connects,
so the page is served by aiohttp, where each visitor has a session of his own.
"""
