# Thin: each target is a line or two of real command. `make demo` and `make test` do all the set-up.
.PHONY: setup demo test test-all torture bench lint format schema lock audit release clean
SHELL := /bin/bash
services = tests/services/prepare.sh
python = .venv/bin/python
compile = ../.venv/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate

setup: .venv/ready

.venv/ready: requirements/dev.txt pyproject.toml
	$(services) python
	rm -rf .venv
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(python) examples/demo.py

test: setup lint
	$(services) buildah registry skopeo qemu busybox docker compose crane socat kubectl openssl sshd genisoimage cosign notary jq mmdebstrap tektonlint actionlint shellcheck chromium atheris
	PATH="$$($(services) --path):$$PATH" .venv/bin/pytest

# Also what takes minutes more: the step image for s390x, built and run under qemu.
test-all: export TEST_ALL = 1
test-all: test

# Every fault at every request, every crash, every secret in every place, and longer fuzzing; half an hour.
torture: export TORTURE = all
torture: setup
	$(services) buildah registry skopeo busybox docker openssl sshd cosign notary jq atheris
	PATH="$$($(services) --path):$$PATH" .venv/bin/pytest tests/torture

# The same work by this tool and others, by turns; writes the table of docs/performance.md.
bench: setup
	$(services) buildah registry skopeo crane cosign busybox
	cd tests && PATH="$$(services/prepare.sh --path):$$PATH" ../.venv/bin/python -m bench --write $(ROWS)

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

schema: setup
	$(python) -c 'from secure_build import config; print(config.schema(), end="")' > .schema.new
	mv .schema.new pipeline/secure_build/data/secure-build.schema.json
	for target in hpvs ccrt ccrv ccco; do \
	  $(python) -c "from secure_build.contract import schema; print(schema.json_schema('$$target'), end='')" > .schema.new && \
	  mv .schema.new pipeline/secure_build/data/contract-$$target.schema.json || exit 1; done
	$(python) -c 'from secure_build import verify_document; print(verify_document.schema(), end="")' > .schema.new
	mv .schema.new pipeline/secure_build/data/verify.schema.json
	$(python) docs/reference.py > .reference.new
	mv .reference.new docs/config.md
	$(python) docs/contract_reference.py > .reference.new
	mv .reference.new docs/contract-fields.md
	$(python) docs/migration.py > .migration.new
	mv .migration.new docs/migrate-from-secure-build-server.md
	$(python) actions/generate.py

# No index and no address is written: the locks hold names, versions and hashes only.
lock: setup
	cd requirements && for part in main dev; do \
	  more=$$([ $$part = dev ] && echo --extra=dev || echo no-s390x-wheel.in); \
	  $(compile) --output-file=$$part.txt $$more ../pyproject.toml; done
	cd requirements && $(compile) --output-file=fuzzing.txt fuzzing.in
	cd requirements && $(compile) --output-file=build.txt --only-build-deps --build-deps-for=wheel ../pyproject.toml

# Asks osv.dev whether a package of any lock is known to be weak.
audit: setup
	.venv/bin/pip-audit --vulnerability-service=osv --strict --require-hashes --disable-pip --progress-spinner=off \
	  $(patsubst %,--requirement=%,$(wildcard requirements/*.txt))

# The files of a release of this commit, in dist/: everybody gets the same.
release: setup
	rm -rf dist
	$(python) actions/release/release.py build dist

clean:
	rm -rf .venv dist .demo .demo-audit .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
