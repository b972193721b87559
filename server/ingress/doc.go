// Package ingress is the node's listener for clients: the only way by which bytes of a client come near the broker.
//
// A client speaks the NATS protocol to the ingress, never to the broker. The ingress reads what it says, allows what is
// on a list, and writes that to the broker in its own words, over an in-process connection of the client's user, whose
// permissions in the broker are exactly the same list. Nothing is passed on as it came: a line, a header block or a
// reply subject that the two sides could read differently does not exist behind the ingress.
//
//	client ──TCP/TLS──▶ client (reads, checks, rebuilds) ──▶ upstream, one a user ──in process──▶ broker
//	       ◀── writer ◀── client (whose answer is it?)   ◀──  (acknowledgements, requests)  ◀──
//
// Clients publish to topics, or serve the requests of groups. A publisher's reply subjects and subscriptions never
// reach the broker: the ingress asks for the acknowledgement under an inbox of its own, numbered, and gives it to
// whatever subscription of the same connection matches the reply subject that the client gave. So a reply subject can
// do no harm, no client sees an answer to another, and each message that the broker has not answered is known and
// counted: that is what bounds memory (see budget), and what one user can make others wait (see pace).
//
// What the ingress does not do: it stores nothing, retries nothing, and promises nothing of its own. An acknowledgement
// is the broker's, byte for byte.
package ingress
