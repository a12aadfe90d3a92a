# `make demo` and `make test` are all the set-up there is: each makes .venv and installs what it needs.
# The dependency list is X-ray2CTPACore/pyproject.toml; constraints.txt beside it pins what CI ran with.

VENV := .venv
PYTHON := $(VENV)/bin/python
CORE := X-ray2CTPACore
SETTINGS := $(CORE)/pyproject.toml
LINTED := $(CORE) $(wildcard Training Testing X-ray2CTPA X-ray2CTPAReaderStudy)

# The interpreter that makes the environment: the first of these that is Python 3.11 to 3.13.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
BASE_PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
	$$p -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $$p && break; done)

# An index may be configured, but no folder of loose wheels: one that holds another build of torch (a CPU
# build, say) than torchvision was made for breaks torchvision. An empty variable would let pip's own
# configuration file through, so it names a folder that holds no wheels.
PIP_INSTALL = PIP_FIND_LINKS=$(VENV) $(PYTHON) -m pip install --constraint $(CORE)/constraints.txt

# Arguments after the defaults: `make test PYTEST_ARGS="-k geometry"`. A file runs in one process, one a core;
# threads beside that would only wait for one another.
PYTEST = OMP_NUM_THREADS=1 $(PYTHON) -m pytest Testing --numprocesses auto --dist loadfile $(PYTEST_ARGS)

.PHONY: demo test test-slow test-all lint format train-default train-paper-smoke train-open-pairs screenshots constraints clean

demo: $(VENV)/.installed-$(if $(VIEW),viewer,base)  ## A CTPA from the packaged radiograph or CXR=path; VIEW=1 shows it
	$(PYTHON) -m xray2ctpa_core demo $(if $(CXR),--cxr "$(CXR)") $(if $(VIEW),--view)

test: $(VENV)/.installed-all  ## The quick tests
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.installed-all  ## The slow tests, in order: the longest are not the last; status 5: there are none
	$(PYTEST) --no-loadscope-reorder -m slow || test $$? -eq 5

test-all: $(VENV)/.installed-all  ## Every test
	$(PYTEST)

lint: $(VENV)/.installed-all  ## Formatting, lint rules, types
	$(PYTHON) -m ruff format --check --config $(SETTINGS) $(LINTED)
	$(PYTHON) -m ruff check --config $(SETTINGS) $(LINTED)
	$(PYTHON) -m mypy --config-file $(SETTINGS) $(CORE)/xray2ctpa_core

format: $(VENV)/.installed-all  ## Formats the tree and applies ruff's safe fixes
	$(PYTHON) -m ruff format --config $(SETTINGS) $(LINTED)
	$(PYTHON) -m ruff check --fix --config $(SETTINGS) $(LINTED)

train-default: $(VENV)/.installed-all  ## Trains the embedded default; TEMPLATES=folder of people's CTs, SET=settings: Training/README.md
	$(PYTHON) Training/train.py people $(if $(TEMPLATES)$(SET),--set $(if $(TEMPLATES),run.templates="$(TEMPLATES)") $(SET))

train-paper-smoke: $(VENV)/.installed-all  ## The papers' system from DICOM to tables, small, on CPU; goes on where it was stopped
	$(PYTHON) Testing/training/virtual_study.py --out build/paper-smoke/data --patients 12
	$(PYTHON) Training/train.py smoke --one-process --data build/paper-smoke/data --out build/paper-smoke/run \
		--set run.name=virtual

# Everything from the index to the table, resumed where it was stopped: what is selected or prepared already is
# left as it is, unless the selection is newer. SELECT= and FETCH= are more arguments of these steps of Training/open_pairs.py.
RECIPE ?= open-pairs
COHORT ?= cohort
OUT ?= runs/$(RECIPE)
OPEN_PAIRS = $(PYTHON) Training/open_pairs.py
train-open-pairs: $(VENV)/.installed-all  ## Open pairs from index to table, cost first: COHORT=, OUT=folder, RECIPE=; docs/open-pairs.md
	test -f "$(COHORT)/rules.json" || $(OPEN_PAIRS) select "$(COHORT)" $(SELECT)
	$(OPEN_PAIRS) cost "$(COHORT)" "$(RECIPE)" --run "$(OUT)" $(if $(SET),--set $(SET))
	test "$(COHORT)/studies.csv" -nt "$(COHORT)/pairs.csv" || $(OPEN_PAIRS) fetch "$(COHORT)" $(FETCH)
	test "$(COHORT)/studies.csv" -nt "$(COHORT)/pairs.csv" || $(OPEN_PAIRS) prepare "$(COHORT)"
	$(PYTHON) Training/train.py "$(RECIPE)" --data "$(COHORT)" --out "$(OUT)" $(if $(SET),--set $(SET))

screenshots: $(VENV)/.installed-all  ## Takes the README's pictures of the module and the page anew, from their tests
	$(PYTHON) -m pytest Testing/module/test_panel.py::test_a_run_shows_progress_and_preview_and_ends_in_a_shown_result
	$(PYTHON) -m pytest Testing/viewer/test_page.py::test_the_sample_result_at_every_size_in_both_modes
	$(PYTHON) Testing/core/kept_pictures.py build/pictures/done.png X-ray2CTPA/Screenshots/panel.png
	$(PYTHON) Testing/core/kept_pictures.py build/pictures/views.png X-ray2CTPA/Screenshots/views.png
	$(PYTHON) Testing/core/kept_pictures.py build/pictures/page-1280.png X-ray2CTPA/Screenshots/page.png

constraints: $(VENV)/.installed-all  ## Pins what is installed now
	{ echo "# What CI ran with: xray2ctpa-core[training,clip,viewer,dev], resolved. Made by \`make constraints\`."; \
	  $(PYTHON) -m pip freeze --exclude-editable --exclude pip | grep -E '^[A-Za-z0-9._-]+==[^+]+$$'; \
	} > $(CORE)/constraints.txt.partial
	mv $(CORE)/constraints.txt.partial $(CORE)/constraints.txt

clean:  ## Removes the environment, caches and demonstration results
	rm -rf $(VENV) demo-result* build .pytest_cache .mypy_cache .ruff_cache $(CORE)/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PYTHON):
	@test -n "$(BASE_PYTHON)" || { echo "Python 3.11 to 3.13 is needed and was not found;" \
		"name one with make BASE_PYTHON=/path/to/python3" >&2; exit 1; }
	$(BASE_PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# A stamp is newer than the lists it was installed from, and is only made when the installation succeeded.
$(VENV)/.installed-base: $(SETTINGS) $(CORE)/constraints.txt | $(PYTHON)
	$(PIP_INSTALL) --editable "$(CORE)"
	touch $@

$(VENV)/.installed-viewer: $(SETTINGS) $(CORE)/constraints.txt | $(PYTHON)
	$(PIP_INSTALL) --editable "$(CORE)[viewer]"
	touch $@ $(VENV)/.installed-base

$(VENV)/.installed-all: $(SETTINGS) $(CORE)/constraints.txt | $(PYTHON)
	$(PIP_INSTALL) --editable "$(CORE)[training,clip,viewer,dev]"
	touch $@ $(VENV)/.installed-base $(VENV)/.installed-viewer
