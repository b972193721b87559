# Leasehold: `make help` lists the targets.
SHELL := /bin/bash
BIN   := bin/leasehold
VERSION ?= 0.1.0
GOFLAGS_BUILD := -trimpath -ldflags "-X leasehold/internal/cli.version=$(VERSION)"
DIR   ?= .cluster
SEEDS ?= 2000
FUZZTIME ?= 30s
FUZZ ?= .
KINDS ?= .
CLUSTERS ?= ^(bare|leasehold)$$
LEGS  ?=
FOR   ?= 8s
MESSAGES ?= 0
PROFILES ?=
OTHER ?=
ROWS ?=
ATTACKS ?=
SEED ?= 0
ROUNDS ?= 0
MINUTES ?= 0
EACH  ?= 0
WIDTH ?= 5
GOVULNCHECK ?= v1.1.4
VULNDB ?=
TABLE ?= $(CURDIR)/bin/$@.txt

# Where `make install` puts things; DESTDIR goes in front, for packages.
PREFIX  ?= /usr/local
DESTDIR ?=

# Packages whose tests measure delays and shares of the processor: one at a time, with nothing beside them.
ALONE := /internal/harness/fault/
# Packages with tests for which `make test` has no time. Their names begin with TestLong, and they skip themselves under -short.
LONG = $(shell grep -rlE --include=*_test.go '^func TestLong' . | xargs -n1 dirname | sort -u)

.PHONY: vuln attacks chaos soak install uninstall systemd-test help build test test-long lint cluster cluster-status cluster-kill cluster-start cluster-down node-named sim fuzz faults figures moves freeze idle outage poison misbehave handler-costs publish-costs python3 recipe

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## build bin/leasehold
	@go build $(GOFLAGS_BUILD) -o $(BIN) .

test: ## run the tests that every change needs (6 minutes on two cores)
	@examples/need.sh
	@internal/harness/matrix/need.sh
	go test -short -timeout 15m $$(go list ./... | grep -v '$(ALONE)')
	go test -short -timeout 10m -p 1 $$(go list ./... | grep '$(ALONE)')

test-long: ## run the tests that take long, and each experiment briefly (12 minutes)
	@examples/need.sh
	@internal/harness/matrix/need.sh
	go test -timeout 30m -run '^TestLong' $(LONG)
	go test -timeout 10m -tags bench ./internal/harness/bench

lint: ## gofmt, go vet, staticcheck, go.mod tidy
	@test -z "$$(gofmt -l .)" || { echo "not formatted (run gofmt -w):"; gofmt -l .; exit 1; }
	go vet ./...
	go vet -tags bench ./internal/harness/bench
	go tool staticcheck ./...
	go tool staticcheck -tags bench ./internal/harness/bench
	go mod tidy -diff

vuln: ## look for known vulnerabilities in what the binary uses; wants the network (VULNDB= for a copy of the database)
	@out=$$(go run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK) $(if $(VULNDB),-db $(VULNDB)) ./... 2>&1); code=$$?; printf '%s\n' "$$out"; \
	case "$$out" in *"fetching vulnerabilities"*|*"proxy.golang.org"*) \
		echo "make vuln: nothing was checked: govulncheck or its database cannot be reached. Run it where there is network, or set VULNDB=file:///path"; exit 1;; esac; \
	exit $$code

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

node-named: # for targets that are about one node
	@test -n '$(N)' || { echo "which node? Give its number: make $(firstword $(MAKECMDGOALS)) N=2" >&2; exit 2; }

sim: ## simulate the lease protocol: SEEDS=2000
	@mkdir -p bin && go test -count=1 -timeout 80m ./cluster/lease/sim -run 'TestNoTwoOwners|TestNothingMoves' -args -seeds $(SEEDS) -summary $(CURDIR)/bin/sim.txt; \
	code=$$?; tail -n 1 bin/sim.txt; exit $$code

faults: ## kill and stop real nodes under load, 12 kills, and judge the histories: a part of test-long
	go test -count=1 -timeout 30m -v -run '^TestLong(KillLoop|Term|Damaged|KillAtEveryFailpoint)' ./internal/harness/scenario/{handover,storage,handler}

chaos: ## the fault matrix, CI's rows; others: ROWS='^kill' (a regular expression) SEED=7 ROUNDS=3 MINUTES=30 (no row starts later) ATTACKS='^flood' (of the row hostile) (root)
	@internal/harness/matrix/need.sh && mkdir -p bin
	go test -count=1 -timeout 180m -v ./internal/harness/matrix -run '^TestMatrix$$' -args -chaos -rows '$(ROWS)' -seed $(SEED) -rounds $(ROUNDS) -minutes $(MINUTES) -attacks '$(ATTACKS)' -table $(TABLE)

soak: ## every row of the fault matrix again and again, with new seeds: MINUTES=60 EACH=20 (faults of each kind are enough) ROWS= (root)
	@internal/harness/matrix/need.sh && mkdir -p bin
	go test -count=1 -timeout 0 -v ./internal/harness/matrix -run '^TestMatrix$$' -args -chaos -soak -rows '$(ROWS)' -rounds $(ROUNDS) -each $(EACH) -minutes $(or $(filter-out 0,$(MINUTES)),60) -table $(TABLE)

recipe: build ## 100,000 messages into PostgreSQL through kills, freezes and restarts, and a look at every effect
	@examples/need.sh
	go test -count=1 -timeout 30m -v ./examples/postgres -run '^TestCluster' -args -messages 100000 -rounds 3

figures: moves freeze idle handler-costs publish-costs ## measure moves, freezes, idle cost, handlers and publishing at length, and print the tables (50 minutes)

moves: build ## five rounds of every planned move of partitions under load
	go test -count=1 -timeout 30m -v ./internal/harness/scenario/handover -run '^TestLongMoves$$' -args -moves 5

freeze: build ## stop processes for 3 s and 20 s, and the quorum for three sessions' lives
	go test -count=1 -timeout 30m -v ./internal/harness/scenario/handover -run '^TestLong(Freeze|NoQuorum)' -args -freezes 3 -freeze 20s

idle: build ## CPU, memory and synced writes of idle nodes
	@command -v strace >/dev/null || { apt-get update -q && apt-get install -y -q strace; } >/dev/null 2>&1 || echo "without strace: synced writes are not counted"
	go test -count=1 -timeout 30m -v -tags bench ./internal/harness/bench -run '^TestIdleCost$$' -args -idle

attacks: ## send what once stopped nodes, and its kind, with floods of WIDTH times the ordinary length, and print what came of it
	go test -count=1 -timeout 60m -v ./internal/harness/scenario/attack -run '^TestLongAttacks$$' -args -attacks $(WIDTH)

outage: build ## take a service down under load for 60 s, in each of three ways, and see what it costs
	go test -count=1 -timeout 30m -v ./internal/harness/scenario/handler -run '^TestLongOutageEmptiesNothing$$' -args -outage 60s

poison: build ## 10,000 messages, some of which always fail, under each on_exhausted, until all of them are back in order
	go test -count=1 -timeout 30m -v ./internal/harness/scenario/handler -run '^TestLongPoisonStopsWhatItsPolicySays$$' -args -poison 10000

misbehave: build ## 10,000 messages to a handler that crashes, hangs, prints garbage and leaves processes behind
	go test -count=1 -timeout 30m -v ./internal/harness/scenario/handler -run '^TestLongHandlerThatMisbehaves$$' -args -misbehave 10000

handler-costs: build python3 ## throughput, CPU and latency of every kind of handler: KINDS='^http' (a regular expression)
	go test -count=1 -timeout 60m -v -tags bench ./internal/harness/bench -run '^TestHandlerCosts$$' -args -costs '$(KINDS)'

publish-costs: build ## what publishing costs beside bare nats-servers: CLUSTERS=. (a regular expression) LEGS='^async' ROUNDS=3 FOR=8s MESSAGES=0 PROFILES=dir (perf) OTHER=another-build
	@$(if $(PROFILES),mkdir -p '$(PROFILES)')
	go test -count=1 -timeout 180m -v -tags bench ./internal/harness/bench -run '^TestPublishCosts$$' -args -publish '$(CLUSTERS)' -publish-legs '$(LEGS)' \
	  -publish-rounds $(or $(filter-out 0,$(ROUNDS)),3) -publish-time $(FOR) -publish-messages $(MESSAGES) -publish-profile '$(if $(PROFILES),$(abspath $(PROFILES)))' -publish-other '$(if $(OTHER),$(abspath $(OTHER)))'

fuzz: ## fuzz every parser for FUZZTIME each, or so many cases: FUZZTIME=1000000x FUZZ=. (a regular expression)
	@set -e; for pkg in $$(grep -rl --include=*_test.go 'func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -rhoE 'func Fuzz[A-Za-z0-9_]+' $$pkg/*_test.go | sed 's/func //' | grep -E '$(FUZZ)' || true); do \
	    echo "== $$pkg $$f"; go test $$pkg -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1000x; done; done

install: ## install binary, units and docs (as root; PREFIX=/usr/local, DESTDIR= for packages)
	@BIN=$(BIN) PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) systemd/install.sh install

uninstall: ## stop and remove what install put there; data and config stay
	@PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) systemd/install.sh uninstall

systemd-test: build python3 ## install, run, break, upgrade and uninstall the service in a booted container (root)
	@{ command -v systemd-nspawn && command -v jq; } >/dev/null || \
	  { apt-get update -q && apt-get install -y -q systemd-container jq; } >/dev/null 2>&1 || true
	@mkdir -p bin/upgrade && go build -trimpath -ldflags "-X leasehold/internal/cli.version=$(VERSION)+upgrade" -o bin/upgrade/leasehold .
	@systemd/test.sh

python3: # the demo's handler is written in it
	@command -v python3 >/dev/null || { echo "installing python3"; apt-get update -q && apt-get install -y -q python3; } || \
	  { echo "python3 is needed for the example handlers: install it with your package manager" >&2; exit 1; }
