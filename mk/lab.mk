# Targets that few changes need: `make help-lab` lists them.
FUZZTIME ?= 30s
FUZZ ?= .
KINDS ?= .
CLUSTERS ?= ^(bare|leasehold)$$
LEGS  ?=
FOR   ?= 8s
MESSAGES ?= 0
PROFILES ?=
OTHER ?=
EACH  ?= 0
WIDTH ?= 5
GOVULNCHECK ?= v1.1.4
VULNDB ?=
ALL ?=

.PHONY: race vuln fuzz soak recipe systemd-test diagrams code-figures figures moves freeze idle attacks outage poison misbehave handler-costs publish-costs

race: ## the packages that share most between goroutines, under the race detector
	go test -count=1 -race ./cluster ./cluster/lease ./worker/... ./partitioner/... ./sdk ./internal/harness/history \
	  ./internal/{deathwatch,diskguard,every,membership,node,peers,registry,repair,status,supervise}/...

vuln: ## look for known vulnerabilities in what the binary uses; wants the network (VULNDB= for a copy of the database)
	@out=$$(go run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK) $(if $(VULNDB),-db $(VULNDB)) ./... 2>&1); code=$$?; printf '%s\n' "$$out"; \
	case "$$out" in *"fetching vulnerabilities"*|*"proxy.golang.org"*) \
		echo "make vuln: nothing was checked: govulncheck or its database cannot be reached. Run it where there is network, or set VULNDB=file:///path"; exit 1;; esac; \
	exit $$code

fuzz: ## fuzz every parser for FUZZTIME each, or so many cases: FUZZTIME=1000000x FUZZ=. (a regular expression)
	@set -e; for pkg in $$(grep -rl --include=*_test.go 'func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -rhoE 'func Fuzz[A-Za-z0-9_]+' $$pkg/*_test.go | sed 's/func //' | grep -E '$(FUZZ)' || true); do \
	    echo "== $$pkg $$f"; go test $$pkg -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1000x; done; done

soak: ## every row of the fault matrix again and again, with new seeds: MINUTES=60 EACH=20 (faults of each kind are enough) ROWS= (root)
	@internal/harness/matrix/need.sh && mkdir -p bin
	go test -count=1 -timeout 0 -v ./internal/harness/matrix -run '^TestMatrix$$' -args -chaos -soak -rows '$(ROWS)' -rounds $(ROUNDS) -each $(EACH) -minutes $(or $(filter-out 0,$(MINUTES)),60) -table $(TABLE)

recipe: build ## 100,000 messages into PostgreSQL through kills, freezes and restarts, and a look at every effect
	@examples/need.sh
	go test -count=1 -timeout 30m -v ./examples/postgres -run '^TestCluster' -args -messages 100000 -rounds 3

systemd-test: build python3 ## install, run, break, upgrade and uninstall the service in a booted container (root)
	@{ command -v systemd-nspawn && command -v jq; } >/dev/null || \
	  { apt-get update -q && apt-get install -y -q systemd-container jq; } >/dev/null 2>&1 || true
	@mkdir -p bin/upgrade && go build -trimpath -ldflags "-X leasehold/internal/cli.version=$(VERSION)+upgrade" -o bin/upgrade/leasehold .
	@systemd/test.sh

diagrams: ## render docs/diagrams/*.mmd to docs/img/*.svg, those whose source has changed; ALL=1: every one (node, npm, chromium)
	@mk/diagrams/render.sh $(if $(ALL),--all)

code-figures: ## what the code looks like in numbers: packages, files, imports, the largest struct, lengths of functions
	@mk/figures.sh

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
