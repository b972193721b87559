// Package server is the embedded broker's life: its data directory, its options, start, health and stop.
//
// One Server is one run of one embedded nats-server. In single mode it stands alone and keeps one replica of
// everything; in cluster mode it is one of at least three that keep three replicas. The package answers "may this
// directory be used", "is the broker ready, and if not, whom does it wait for" and hands out in-process connections. It
// knows nothing of topics, groups or leases: what those store, they create themselves over such a connection.
//
// What it does not do: it never removes a member, never repairs a replica and never changes a directory from one mode
// to the other. Those are an operator's decisions.
package server
