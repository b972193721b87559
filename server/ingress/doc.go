// Package ingress is the node's listener for clients: a client's bytes reach the broker only through it.
//
// A client speaks the NATS protocol to the ingress, never to the broker. The ingress parses each operation, checks it
// against an allow list, and writes it to the broker in its own spelling, over an in-process connection of
// the client's user, whose permissions in the broker are exactly that list. Nothing is passed on as it came: behind the
// ingress there is no line, header block or reply subject that the two sides could read differently.
//
//	client ──TCP/TLS──▶ client (reads, checks, rebuilds) ──▶ upstream, one a user ──in process──▶ broker
//	       ◀── writer ◀── client (whose answer is it?)   ◀──  (acknowledgements, requests)  ◀──
//
// Clients publish to topics, or serve the requests of groups. A publisher's reply subjects and subscriptions never
// reach the broker: the ingress asks for the acknowledgement under an inbox of its own, numbered, and passes it to
// the subscriptions of the same connection that match the client's reply subject. So a reply subject can do no harm, no
// client sees another's answer, and each message that the broker has not answered is counted: that bounds memory
// (limits.Budget), and how long one user can make others wait (limits.Pace).
//
// What the ingress does not do: it stores nothing, retries nothing, and promises nothing of its own. An acknowledgement
// is the broker's, byte for byte.
package ingress
