//! The sentences that this server says by itself, in one place: code, enhanced status (RFC 3463,
//! IANA's registry) and text. What a driver decides it says with [`Reply::new`]; the refusals that
//! every driver needs stand here too.

use mail::{EnhancedStatus, QueueId};

use super::Reply;

const fn ok(subject: u16, detail: u16) -> EnhancedStatus {
    EnhancedStatus::success(subject, detail)
}

const fn later(subject: u16, detail: u16) -> EnhancedStatus {
    EnhancedStatus::temporary(subject, detail)
}

const fn no(subject: u16, detail: u16) -> EnhancedStatus {
    EnhancedStatus::permanent(subject, detail)
}

/// 220 at the start of the connection.
pub fn greeting(host: &str) -> Reply {
    Reply::new(220, None, format!("{host} ESMTP Restante"))
}

/// 250 to HELO.
pub fn hello(host: &str) -> Reply {
    Reply::new(250, None, host.to_owned())
}

/// 220 to STARTTLS.
pub fn ready_for_tls() -> Reply {
    Reply::new(220, ok(0, 0), "ready to start TLS")
}

/// 250 to MAIL.
pub fn sender_ok() -> Reply {
    Reply::new(250, ok(1, 0), "sender accepted")
}

/// 250 to RCPT.
pub fn recipient_ok() -> Reply {
    Reply::new(250, ok(1, 5), "recipient accepted")
}

/// 250 to RSET and NOOP.
pub fn done() -> Reply {
    Reply::new(250, ok(0, 0), "done")
}

/// 354 to DATA.
pub fn send_content() -> Reply {
    Reply::new(354, None, "send the message, end it with a lone dot")
}

/// 250 to a BDAT chunk that is not the last.
pub fn chunk_ok(octets: u64) -> Reply {
    Reply::new(250, ok(0, 0), format!("{octets} octets received"))
}

/// 250 to a content: it is on disk, under this id.
pub fn queued(id: &QueueId) -> Reply {
    Reply::new(250, ok(0, 0), format!("queued as {id}"))
}

/// 250 to an offer: the reference is verified and on disk, custody stays with the origin (TBR §3).
pub fn reference_accepted(id: &QueueId) -> Reply {
    Reply::new(250, ok(5, 0), format!("{id} reference accepted, retrieval pending"))
}

/// 235: authenticated.
pub fn authenticated() -> Reply {
    Reply::new(235, ok(7, 0), "authenticated")
}

/// 250 to ETRN: whether anything waits is not said (RFC 1985 §5.3).
pub fn queue_started() -> Reply {
    Reply::new(250, ok(0, 0), "what waits is tried now")
}

/// 251 to ETRN: nothing waits.
pub fn nothing_waits(node: &str) -> Reply {
    Reply::new(251, ok(0, 0), format!("no messages wait for {node}"))
}

/// 253 to ETRN: so many messages wait, and are tried now.
pub fn messages_tried(node: &str, count: u64) -> Reply {
    Reply::new(253, ok(0, 0), format!("{count} pending message(s) for {node} started"))
}

/// 458 to ETRN: not now.
pub fn cannot_queue(node: &str, why: &str) -> Reply {
    Reply::new(458, later(3, 0), format!("unable to queue messages for {node}: {why}"))
}

/// 459 to ETRN: not for this node, or not for this client.
pub fn node_not_allowed(node: &str, why: &str) -> Reply {
    Reply::new(459, later(7, 1), format!("{node} not allowed: {why}"))
}

/// 250 to ATRN: the client is the server from now on (RFC 2645 §5.2.2).
pub fn turning() -> Reply {
    Reply::new(250, ok(0, 0), "OK now reversing the connection")
}

/// 450 to ATRN: not for these domains, or not now.
pub fn atrn_refused(why: &'static str) -> Reply {
    Reply::new(450, later(7, 1), why)
}

/// 451 to ATRN: whether anything waits cannot be told.
pub fn atrn_impossible() -> Reply {
    Reply::new(451, later(3, 0), "unable to process ATRN now")
}

/// 453 to ATRN: nothing waits.
pub fn no_mail() -> Reply {
    Reply::new(453, later(2, 0), "you have no mail")
}

/// 221 to QUIT.
pub fn bye() -> Reply {
    Reply::new(221, ok(0, 0), "bye")
}

/// 252 to VRFY: no address is confirmed or denied (RFC 5321 §7.3).
pub fn cannot_verify() -> Reply {
    Reply::new(252, ok(0, 0), "send mail to find out")
}

/// 214 to HELP.
pub fn help() -> Reply {
    Reply::new(214, ok(0, 0), "see RFC 5321 and https://github.com/restante/restante")
}

/// 421: the client was silent for too long.
pub fn timeout() -> Reply {
    Reply::new(421, later(4, 2), "idle for too long, closing")
}

/// 421: the server stops.
pub fn shutting_down() -> Reply {
    Reply::new(421, later(3, 2), "shutting down, try again later")
}

/// 421: too many refused commands.
pub fn too_many_errors() -> Reply {
    Reply::new(421, later(7, 0), "too many errors, closing")
}

/// 421: too many commands without a message.
pub fn too_many_commands() -> Reply {
    Reply::new(421, later(7, 0), "too many commands, closing")
}

/// 421: an HTTP request.
pub fn not_http() -> Reply {
    Reply::new(421, later(7, 0), "this is a mail server and speaks no HTTP, closing")
}

/// 421: a line that does not end.
pub fn endless_line() -> Reply {
    Reply::new(421, later(5, 2), "endless line, closing")
}

/// 421: far more content than was announced as acceptable.
pub fn endless_content() -> Reply {
    Reply::new(421, later(3, 4), "endless message, closing")
}

/// 421: a TBR block over its limit (TBR §3).
pub fn block_too_big() -> Reply {
    Reply::new(421, later(5, 4), "the block is too long, closing")
}

/// 421: a BDAT whose size cannot be read; what follows could be anything.
pub fn unknown_chunk() -> Reply {
    Reply::new(421, later(5, 4), "BDAT needs a size, closing")
}

/// 452: the recipient limit is reached (RFC 5321 §4.5.3.1.10).
pub fn too_many_recipients() -> Reply {
    Reply::new(452, later(5, 3), "too many recipients, send the rest in another transaction")
}

/// 421: as many messages as a connection may bring (RFC 9422 §4.1).
pub fn too_many_transactions() -> Reply {
    Reply::new(421, later(5, 3), "too many messages in one session, send the rest in another")
}

/// 451: something of ours failed.
pub fn local_error() -> Reply {
    Reply::new(451, later(3, 0), "local error, try again later")
}

/// 500: no such verb.
pub fn unrecognised() -> Reply {
    Reply::new(500, no(5, 1), "command not recognised")
}

/// 502: a verb that is known but not on offer here and now.
pub fn not_implemented() -> Reply {
    Reply::new(502, no(5, 1), "command not implemented")
}

/// 503: EHLO comes first.
pub fn hello_first() -> Reply {
    Reply::new(503, no(5, 1), "send EHLO first")
}

/// 503: MAIL comes first.
pub fn mail_first() -> Reply {
    Reply::new(503, no(5, 1), "send MAIL first")
}

/// 503: a transaction is open.
pub fn nested_mail() -> Reply {
    Reply::new(503, no(5, 1), "a transaction is open, send RSET first")
}

/// 503: chunks have been sent, only chunks or RSET may follow (RFC 3030 §2).
pub fn amid_chunks() -> Reply {
    Reply::new(503, no(5, 1), "chunks have begun, send BDAT or RSET")
}

/// 503: ETRN within a transaction.
pub fn not_amid_transaction() -> Reply {
    Reply::new(503, no(5, 1), "not within a transaction, send RSET first")
}

/// 504: ETRN of a queue by its name; there are none.
pub fn no_such_queue() -> Reply {
    Reply::new(504, no(5, 4), "queues have no names here, ask for a domain")
}

/// 503: TLS is already on.
pub fn already_tls() -> Reply {
    Reply::new(503, no(5, 1), "TLS is already active")
}

/// 503: AUTH a second time, or within a transaction (RFC 4954 §4).
pub fn auth_not_now() -> Reply {
    Reply::new(503, no(5, 1), "AUTH is not possible now")
}

/// 503: STARTTLS after AUTH.
pub fn starttls_not_now() -> Reply {
    Reply::new(503, no(5, 1), "STARTTLS is not possible now")
}

/// 503: a chunk without an accepted recipient (RFC 3030 §2).
pub fn chunk_without_recipient() -> Reply {
    Reply::new(503, no(5, 1), "no valid recipients")
}

/// 554: content or offer without an accepted recipient (RFC 5321 §3.3, TBR §3).
pub fn no_recipient() -> Reply {
    Reply::new(554, no(5, 1), "no valid recipients")
}

/// 504: no such SASL mechanism.
pub fn unknown_mechanism() -> Reply {
    Reply::new(504, no(5, 4), "authentication mechanism not available")
}

/// 538: that mechanism needs TLS (RFC 4954 §6).
pub fn auth_needs_tls() -> Reply {
    Reply::new(538, no(7, 11), "encryption is required for authentication")
}

/// 500: a SASL response over the line limit (RFC 4954 §6).
pub fn auth_line_too_long() -> Reply {
    Reply::new(500, no(5, 6), "authentication exchange line is too long")
}

/// 501: the client gave up the SASL exchange with `*` (RFC 4954 §4).
pub fn auth_cancelled() -> Reply {
    Reply::new(501, no(7, 0), "authentication cancelled")
}

/// 535: wrong name or password (RFC 4954 §6).
pub fn auth_failed() -> Reply {
    Reply::new(535, no(7, 8), "authentication credentials are not valid")
}

/// 530: submission or ATRN without AUTH (RFC 4954 §6, RFC 2645 §5.2.2).
pub fn auth_required() -> Reply {
    Reply::new(530, no(7, 0), "authentication required")
}

/// 550: this server is no open relay.
pub fn relaying_denied() -> Reply {
    Reply::new(550, no(7, 1), "relaying denied")
}

/// 550: no such mailbox.
pub fn no_such_mailbox() -> Reply {
    Reply::new(550, no(1, 1), "no such mailbox here")
}

/// 552: over the size limit (RFC 1870 §6).
pub fn too_big(limit: u64) -> Reply {
    Reply::new(552, no(3, 4), format!("message is too big, the limit is {limit} octets"))
}

/// 553: an address outside ASCII without SMTPUTF8 (RFC 6531 §3.5).
pub fn needs_smtputf8() -> Reply {
    Reply::new(553, no(6, 7), "the address needs SMTPUTF8")
}

/// 554: a bare CR or LF in content or block.
pub fn bare_line_end() -> Reply {
    Reply::new(554, no(6, 0), "bare CR or LF in message, lines end with CR LF")
}

/// 554: a content line over the limit (RFC 5321 §4.5.3.1.6).
pub fn long_line() -> Reply {
    Reply::new(554, no(6, 0), "a line of the message is too long")
}

/// 501: a TBR block that is no block: bare CR or LF, an overlong line, a line that begins with a dot.
pub fn malformed_block() -> Reply {
    Reply::new(501, no(5, 2), "the reference is not well-formed")
}

/// 501: a RCPT of this transaction could not be parsed, so the recipients hash cannot match (TBR §4).
pub fn void_recipients() -> Reply {
    Reply::new(501, no(1, 3), "a recipient address was not valid")
}
