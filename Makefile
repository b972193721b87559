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

# Tests that take long: experiments that have a target of their own, and what rows of the fault matrix show as well.
LONG := ^(TestAttacks|TestBrokenRulesAreFound|TestFreeze|TestFrozenNodeIsBuriedForItsSilence|TestHandlerCosts|TestHandlerThatMisbehaves|TestIdleCost|TestKillAtEveryFailpoint|TestLostDiskAndSecondMachine|TestMoves|TestNodesJoinAndAreRemovedUnderLoad|TestNoChangeOfSizesKeepsANodeFromWorking|TestNoQuorumMovesNothing|TestOutageEmptiesNothing|TestPoisonStopsWhatItsPolicySays|TestPublishCosts|TestTermHandsOverADeepBacklog|TestWallClockOfANodeIsWrong)$$
# Packages whose tests run real clusters, or measure: they want the cores to themselves.
ALONE := /(internal/(harness/(testcluster|matrix|fault)|node)|server|examples)(/|$$$$)

.PHONY: vuln attacks chaos soak install uninstall systemd-test help build test test-long lint cluster cluster-status cluster-kill cluster-start cluster-down node-named sim fuzz faults figures moves freeze idle outage poison misbehave handler-costs publish-costs python3 recipe

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## build bin/leasehold
	@go build $(GOFLAGS_BUILD) -o $(BIN) .

test: ## run the tests that every change needs (14 minutes on two cores)
	@examples/need.sh
	@internal/harness/matrix/need.sh
	go vet ./...
	go test -timeout 10m -skip '$(LONG)' $$(go list ./... | grep -vE '$(ALONE)')
	go test -timeout 15m -p 1 -skip '$(LONG)' $$(go list ./... | grep -E '$(ALONE)')

test-long: ## run the tests that take long, and that `make test` leaves out (10 minutes)
	@examples/need.sh
	@internal/harness/matrix/need.sh
	@for name in $$(echo '$(LONG)' | grep -oE 'Test[A-Za-z]+'); do grep -rqs --include=*_test.go "func $$name(" . || { echo "no test is called $$name"; exit 1; }; done
	go test -timeout 30m -p 1 -run '$(LONG)' ./internal/harness/testcluster ./cluster/lease/sim

lint: ## gofmt, go vet, staticcheck, go.mod tidy
	@test -z "$$(gofmt -l .)" || { echo "not formatted (run gofmt -w):"; gofmt -l .; exit 1; }
	go vet ./...
	go tool staticcheck ./...
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

faults: build python3 ## kill and stop real nodes under load, 12 kills, and judge the histories
	go test -count=1 -timeout 30m -v ./internal/harness/testcluster -run 'TestKillLoop|TestTerm|TestDamaged|TestKillAtEveryFailpoint' -args -kills 12 -failpoints

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
	go test -count=1 -timeout 30m -v ./internal/harness/testcluster -run '^TestMoves$$' -args -moves 5

freeze: build ## stop processes for 3 s and 20 s, and the quorum for three sessions' lives
	go test -count=1 -timeout 30m -v ./internal/harness/testcluster -run '^(TestFreeze|TestNoQuorum.*)$$' -args -freezes 3 -freeze 20s

idle: build ## CPU, memory and synced writes of idle nodes
	@command -v strace >/dev/null || { apt-get update -q && apt-get install -y -q strace; } >/dev/null 2>&1 || echo "without strace: synced writes are not counted"
	go test -count=1 -timeout 30m -v ./internal/harness/testcluster -run '^TestIdleCost$$' -args -idle

attacks: ## send what once stopped nodes, and its kind, with floods of WIDTH times the ordinary length, and print what came of it
	go test -count=1 -timeout 60m -v ./internal/harness/testcluster -run '^TestAttacks$$' -args -attacks $(WIDTH)

outage: build ## take a service down under load for 60 s, in each of three ways, and see what it costs
	go test -count=1 -timeout 30m -v ./internal/harness/testcluster -run '^TestOutageEmptiesNothing$$' -args -outage 60s

poison: build ## 10,000 messages, some of which always fail, under each on_exhausted, until all of them are back in order
	go test -count=1 -timeout 30m -v ./internal/harness/testcluster -run '^TestPoisonStopsWhatItsPolicySays$$' -args -poison 10000

misbehave: build ## 10,000 messages to a handler that crashes, hangs, prints garbage and leaves processes behind
	go test -count=1 -timeout 30m -v ./internal/harness/testcluster -run '^TestHandlerThatMisbehaves$$' -args -misbehave 10000

handler-costs: build python3 ## throughput, CPU and latency of every kind of handler: KINDS='^http' (a regular expression)
	go test -count=1 -timeout 60m -v ./internal/harness/testcluster -run '^TestHandlerCosts$$' -args -costs '$(KINDS)'

publish-costs: build ## what publishing costs beside bare nats-servers: CLUSTERS=. (a regular expression) LEGS='^async' ROUNDS=3 FOR=8s MESSAGES=0 PROFILES=dir (perf) OTHER=another-build
	@$(if $(PROFILES),mkdir -p '$(PROFILES)')
	go test -count=1 -timeout 180m -v ./internal/harness/testcluster -run '^TestPublishCosts$$' -args -publish '$(CLUSTERS)' -publish-legs '$(LEGS)' \
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
