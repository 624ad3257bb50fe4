# Every command of the course. The environment is made where it is first needed, in .venv.
PYTHON ?= python3
PORT ?= 8000
TORCH ?= 2.13.0
VENV := .venv
DATA := attn_course/data/packages.txt
BIN := $(VENV)/bin
PYODIDE := book/live/node_modules/pyodide/package.json
AXE := tests/browser/node_modules/axe-core/package.json
NPM = $(BIN)/npm ci --ignore-scripts --no-audit --no-fund --silent
# Two BLAS threads on a busy machine are far slower than one.
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
NBVAL = $(BIN)/python -m pytest --nbval --nbval-current-env -n 2 --dist loadfile book

.DEFAULT_GOAL := help
.PHONY: help book pdf epub serve test test-notebooks browser-test notebooks exercises kill-rate lab lint applications tuning bench bench-ring bench-gpu pages \
  planted-bugs lock clean

help:  ## Say what each command does.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: $(VENV)/book.stamp $(PYODIDE)  ## Build the book: _build/html/index.html.
	$(BIN)/jupyter-book build . -W -n --keep-going --quiet

pdf: $(VENV)/paper.stamp book  ## Print the book: _build/pdf/attention.pdf (needs Chromium or Chrome).
	PYTHONPATH=book $(BIN)/python -m paper.pdf

epub: $(VENV)/paper.stamp book  ## Write the book as _build/epub/attention.epub, and validate it.
	PYTHONPATH=book $(BIN)/python -m paper.epub

serve: book  ## Build the book and serve it at http://localhost:8000 (or PORT=...).
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

test: $(VENV)/test.stamp $(PYODIDE)  ## Run every test, and every notebook against its stored outputs.
	$(BIN)/python -m pytest -n 2
	$(NBVAL)

test-notebooks: $(VENV)/test.stamp  ## Run every notebook against its stored outputs.
	$(NBVAL)

browser-test: $(VENV)/test.stamp $(AXE) book pdf epub  ## Open every page in a browser (needs Chromium or Chrome).
	$(BIN)/python -m pytest -n 2 tests/browser

notebooks: $(VENV)/test.stamp  ## Run every notebook and store its outputs.
	$(BIN)/python book/execute.py

exercises: $(VENV)/test.stamp  ## Write the students' notebooks of the book anew, and run them.
	$(BIN)/python -m attn_course.exercises.student book/exercises
	$(BIN)/python book/execute.py book/exercises/*.ipynb

kill-rate: $(VENV)/test.stamp  ## Count which mistakes the exercises reject and name, for the book.
	PYTHONPATH=tests $(BIN)/python tests/kill_rate.py
	$(BIN)/python tests/attack_table.py

lab: $(VENV)/test.stamp  ## Open the notebooks in JupyterLab.
	$(BIN)/jupyter lab book

lint: $(VENV)/test.stamp  ## Check style, format and spelling.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

applications: $(VENV)/test.stamp  ## Train and measure the models that the results lack (resumes).
	$(BIN)/python -m attn_course.applications

tuning: $(VENV)/test.stamp  ## Measure each setting of attention, and search (resumes; some forty minutes).
	$(BIN)/python -m attn_course.applications.tuning

bench: $(VENV)/test.stamp  ## Time and weigh attention on this machine (some ten minutes).
	$(BIN)/python benchmarks/bench_cpu.py

bench-ring: $(VENV)/test.stamp  ## Time and weigh ring attention on one to four processes (some three minutes).
	$(BIN)/python benchmarks/bench_ring.py

bench-gpu: $(VENV)/test.stamp  ## Time attention on this machine's CUDA device (resumes).
	$(BIN)/python benchmarks/bench_gpu.py

pages: book $(VENV)/test.stamp  ## Weigh and time the pages of the book, with Lighthouse (some ten minutes).
	$(NPM) --prefix tests/browser
	$(BIN)/python benchmarks/bench_pages.py

planted-bugs: $(VENV)/test.stamp  ## Plant known bugs in a copy: two tests or more must find each.
	$(BIN)/python tests/planted_bugs.py

lock:  ## Write constraints.txt anew: the newest versions that fit pyproject.toml.
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet "torch==$(TORCH)" -e ".[test]"
	(echo "# Every version pinned. Written by make lock, never by hand." && \
	  $(VENV)-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//') > constraints.txt
	rm -rf $(VENV)-lock

clean:  ## Remove the environment and everything that was built.
	rm -rf $(VENV) _build build *.egg-info book/live/node_modules tests/browser/node_modules

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/book.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e ".[book]"
	touch $@

$(VENV)/test.stamp: $(BIN)/python pyproject.toml constraints.txt $(DATA)
	$(PIP) -e ".[test]"
	$(PIP) --no-deps -r $(DATA)
	touch $@ $(VENV)/book.stamp $(VENV)/paper.stamp

$(VENV)/paper.stamp: $(VENV)/book.stamp
	$(PIP) -e ".[paper]"
	touch $@

# Python for the reader's browser, and what looks at pages, by the npm that pip installed.
$(PYODIDE): $(VENV)/book.stamp book/live/package-lock.json
	$(NPM) --prefix book/live
	touch $@

$(AXE): $(VENV)/book.stamp tests/browser/package-lock.json
	$(NPM) --omit=optional --prefix tests/browser
	touch $@
