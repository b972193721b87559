# Leasehold: `make help` lists the targets; the rarer ones are in mk/lab.mk.
SHELL := /bin/bash
BIN   := bin/leasehold
VERSION ?= $(shell mk/version.sh)
GOFLAGS_BUILD := -trimpath -ldflags "-X leasehold/internal/cli.version=$(VERSION)"
# The linter is pinned in a go.mod of its own, so that the product's names only what the product uses.
LINTER := go tool -modfile=mk/tools.mod golangci-lint
DIR   ?= .cluster
SEEDS ?= 2000
KILLS ?= 12
ROWS ?=
ATTACKS ?=
SEED ?= 0
ROUNDS ?= 0
MINUTES ?= 0
TABLE ?= $(CURDIR)/bin/$@.txt

# Where `make install` puts things; DESTDIR goes in front, for packages.
PREFIX  ?= /usr/local
DESTDIR ?=

# Packages that `make test` tests side by side: most tests wait, for an election, a lease's end or a file's lines.
SIDE ?= 4
# Packages with tests for which `make test` has no time. Their names begin with TestLong, and they skip themselves under -short.
LONG = $(shell grep -rlE --include=*_test.go '^func TestLong' . | xargs -n1 dirname | sort -u)

.PHONY: help help-lab build test test-long lint cluster cluster-status cluster-kill cluster-start cluster-down sim faults chaos install uninstall node-named python3

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 18
	@echo "make help-lab lists more: fuzzing, the service in a container, the long fault runs, measurements, diagrams"

help-lab: # what mk/lab.mk holds
	@grep -hE '^[a-z0-9-]+:.*##' mk/lab.mk | sed -E 's/:.*## /\t/' | expand -t 18

build: ## build bin/leasehold
	@go build $(GOFLAGS_BUILD) -o $(BIN) .

test: ## run the tests that every change needs (6 minutes on two cores)
	@examples/need.sh
	@internal/harness/matrix/need.sh
	go test -short -timeout 15m -p $(SIDE) ./...

test-long: ## run the tests that take long, and each experiment briefly (12 minutes)
	@examples/need.sh
	@internal/harness/matrix/need.sh
	go test -timeout 30m -p 2 -run '^TestLong' $(LONG)
	go test -timeout 10m -tags bench ./internal/harness/bench

lint: ## golangci-lint (.golangci.yml), go.mod tidy; the first run builds the linter
	$(LINTER) run ./...
	$(LINTER) run --build-tags bench ./internal/harness/bench/...
	go mod tidy -diff

cluster: build python3 ## start three nodes, process 20,000 real events, check the result
	@LEASEHOLD=$(BIN) DIR=$(DIR) examples/flights/run.sh

cluster-status: build ## show the local cluster's status
	@$(BIN) dev status --dir $(DIR) || test $$? -eq 10 # 10: unhealthy, as it shows.

cluster-kill: node-named build ## kill -9 node N (N=1|2|3)
	@$(BIN) dev kill n$(N) --dir $(DIR)

cluster-start: node-named build ## start node N again (N=1|2|3)
	@$(BIN) dev start n$(N) --dir $(DIR)

cluster-down: build ## stop the local cluster
	@$(BIN) dev down --dir $(DIR)

sim: ## simulate the lease protocol: SEEDS=2000
	@mkdir -p bin && go test -count=1 -timeout 80m ./cluster/lease/sim -run 'TestNoTwoOwners|TestNothingMoves' -args -seeds $(SEEDS) -summary $(CURDIR)/bin/sim.txt; \
	code=$$?; tail -n 1 bin/sim.txt; exit $$code

faults: ## kill and stop real nodes under load, and judge the histories: KILLS=12 (test-long makes 4 kills)
	go test -count=1 -timeout 30m -v -run '^TestLong(KillLoop|Term)' ./internal/harness/scenario/handover -args -kills $(KILLS)
	go test -count=1 -timeout 30m -v -run '^TestLong(Damaged|KillAtEveryFailpoint)' ./internal/harness/scenario/{storage,handler}

chaos: ## the fault matrix, CI's rows; others: ROWS='^kill' (a regular expression) SEED=7 ROUNDS=3 MINUTES=30 (no row starts later) ATTACKS='^flood' (of the row hostile) (root)
	@internal/harness/matrix/need.sh && mkdir -p bin
	go test -count=1 -timeout 180m -v ./internal/harness/matrix -run '^TestMatrix$$' -args -chaos -rows '$(ROWS)' -seed $(SEED) -rounds $(ROUNDS) -minutes $(MINUTES) -attacks '$(ATTACKS)' -table $(TABLE)

install: ## install binary, units and docs (as root; PREFIX=/usr/local, DESTDIR= for packages)
	@BIN=$(BIN) PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) systemd/install.sh install

uninstall: ## stop and remove what install put there; data and config stay
	@PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) systemd/install.sh uninstall

node-named: # for targets that are about one node
	@test -n '$(N)' || { echo "which node? Give its number: make $(firstword $(MAKECMDGOALS)) N=2" >&2; exit 2; }

python3: # the demo's handler is written in it
	@command -v python3 >/dev/null || { echo "installing python3"; apt-get update -q && apt-get install -y -q python3; } || \
	  { echo "python3 is needed for the example handlers: install it with your package manager" >&2; exit 1; }

include mk/lab.mk
