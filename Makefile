# What a contributor types. `make help` lists it.
PYTHON ?= .venv/bin/python
BIN := $(dir $(PYTHON))

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## virtual environment with everything for development
	./control.sh setup dev

# What any of the commands below begins with. It looks each time, which takes a moment: the environment
# that drew a first picture has none of the tests' packages. A Python that was given is taken as it is.
ifeq ($(PYTHON),.venv/bin/python)
.PHONY: $(PYTHON)
endif
$(PYTHON):
	@./control.sh setup dev

.PHONY: check
check: | $(PYTHON) ## style, types, import directions, generated files; changes nothing
	$(BIN)ruff check .
	$(BIN)ruff format --check .
	$(BIN)mypy
	$(BIN)lint-imports --no-cache
	$(PYTHON) -m tools.generate --check

.PHONY: fix
fix: | $(PYTHON) ## what ruff can mend, and the generated files
	$(BIN)ruff check --fix .
	$(BIN)ruff format .
	$(PYTHON) -m tools.generate

.PHONY: generate
generate: | $(PYTHON) ## JSON Schemas, OpenAPI, AsyncAPI, definitions, .env.example, pages of docs/
	$(PYTHON) -m tools.generate

.PHONY: test
test: ## the whole suite, set-up included
	./control.sh test

.PHONY: check-full
check-full: test ## the suite, and what needs Node, PostgreSQL, a browser or time besides
	$(PYTHON) -m pytest tests/full/test_store_postgresql.py tests/full/test_service_postgresql.py tests/full/test_model_offline.py tests/full/test_store_life_postgresql.py tests/full/test_several_machines.py tests/full/test_curl.py tests/full/test_training_evaluation.py tests/full/test_training_runs.py
	$(MAKE) browser-check chat-check api-check openai-check languages-check rules-check asyncapi-check

.PHONY: api-check
api-check: | $(PYTHON) ## 5,000 requests of schemathesis to all HTTP operations, with and without a token
	$(PYTHON) -m pytest --numprocesses=0 --capture=no tests/full/test_schemathesis.py

.PHONY: openai-check
openai-check: | $(PYTHON) ## the images API by OpenAI's clients for Python and Node (npm), and as front ends ask
	$(PYTHON) -m pytest --numprocesses=0 tests/test_openai.py tests/full/test_openai_node.py

.PHONY: languages-check
languages-check: | $(PYTHON) ## the publishers of examples/ in Node (npm), Python and shell (amqp-tools)
	$(PYTHON) -m pytest --numprocesses=0 tests/test_plain_clients.py tests/full/test_node.py tests/full/test_languages.py

.PHONY: browser-check
browser-check: | $(PYTHON) ## Chromium on pages that mean harm, and on /docs
	$(PYTHON) -m pytest --numprocesses=0 tests/full/test_browser.py

.PHONY: chat
chat: | $(PYTHON) ## a chat whose users ask for pictures, on top of this clone's service; prints its address
	./control.sh image start
	CHAT_AMQP_URL="$$(./control.sh image amqp-url)" $(PYTHON) -m examples.chat

.PHONY: chat-check
chat-check: | $(PYTHON) ## the chat in Chromium: 20 users, keyboard, trouble, nothing that leaves its origin (5 minutes)
	$(PYTHON) -m examples.chat.wishes.measure
	$(PYTHON) -m pytest --numprocesses=0 tests/full/test_chat_browser.py

.PHONY: chat-screenshots
chat-screenshots: | $(PYTHON) ## docs/chat-*.png anew, by Chromium and the built-in model
	$(PYTHON) -m pytest --numprocesses=0 tests/full/test_chat_screenshots.py

.PHONY: rules-check
rules-check: | $(PYTHON) ## Prometheus' rules by promtool, and a real Prometheus on a service under load
	$(PYTHON) -m pytest --numprocesses=0 tests/full/test_rules.py tests/full/test_prometheus.py

.PHONY: asyncapi-check
asyncapi-check: ## the AsyncAPI document by the official parser (npm)
	tools/asyncapi_check.sh

.PHONY: broker-check
broker-check: | $(PYTHON) ## the tests that depend on the broker, on Debian's newest RabbitMQ (a chroot; root) (20 minutes)
	BROKER_CHECK_PYTHON=$(PYTHON) tools/broker_check.sh

.PHONY: image-check
image-check: | $(PYTHON) ## container files by hadolint and a Docker engine: pictures, control.sh, a cluster that loses brokers (12 minutes)
	tools/image_check.sh

.PHONY: kubernetes-check
kubernetes-check: | $(PYTHON) ## the manifests by kubectl and by the schemas of Kubernetes, KEDA and Prometheus
	PYTHON=$(PYTHON) tools/kubernetes_check.sh

.PHONY: bench-overhead
bench-overhead: | $(PYTHON) ## seconds that the service adds to a picture, built-in model, 1024x1024
	$(PYTHON) -m bench.overhead

.PHONY: bench-overlap
bench-overlap: | $(PYTHON) ## how busy 40 requests keep a pipeline of 250 ms; fails below 97 %
	$(PYTHON) -m bench.overlap

.PHONY: bench-http
bench-http: | $(PYTHON) ## 200 blocking HTTP callers on a queue of 20; fails where one is lost or probes are slow
	$(PYTHON) -m bench.http

.PHONY: bench-encode
bench-encode: | $(PYTHON) ## milliseconds and KiB of the image codecs
	$(PYTHON) -m bench.encode

.PHONY: bench-scrape
bench-scrape: | $(PYTHON) ## milliseconds of a scrape, idle and while four jobs run; fails from 20 ms up
	$(PYTHON) -m bench.scrape

.PHONY: bench-blocked
bench-blocked: | $(PYTHON) ## milliseconds of the probes with the event loop blocked for 2 s; fails from 100 ms up
	$(PYTHON) -m bench.blocked

.PHONY: chaos
chaos: | $(PYTHON) ## every fault and a soak on a real broker: nothing lost, doubled or leaked (15 minutes)
	$(PYTHON) -m bench.chaos

.PHONY: bench-scaling
bench-scaling: | $(PYTHON) ## 1 to 8 consumers on one queue and PostgreSQL; fails below 7.5 times one (16 minutes)
	$(PYTHON) -m bench.scaling

.PHONY: cluster-check
cluster-check: | $(PYTHON) ## three brokers, the queue's leader killed under load, twice; fails where one of 400 is lost
	$(PYTHON) -m bench.cluster

.PHONY: gpu-check
gpu-check: | $(PYTHON) ## the model on this machine's accelerator: seconds a step, memory, NaN
	$(PYTHON) -m bench.gpu_check

TRAINING ?= --device cpu --minutes 480

.PHONY: train-builtin
train-builtin: | $(PYTHON) ## train the built-in model, or go on with it: TRAINING="--device cuda --minutes 20"
	$(PYTHON) -m training $(TRAINING)

.PHONY: eval-builtin
eval-builtin: | $(PYTHON) ## what the built-in model gets right, read from pixels; contact sheets (another: EVALUATION="--model build/training/model")
	$(PYTHON) -m training.evaluation $(EVALUATION)
