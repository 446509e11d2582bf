//! Reading what strangers wrote: commands and run commands, or what was sent in their place.
//!
//! A refusal says where the text is wrong and what was expected there, and never repeats a value
//! of it: the value may be a secret in the wrong place.

use engine_model::{
    Actor, Code, Command, CommandEnvelope, CommandId, Kind, Rejection, RunCommand, RunEnvelope,
    RunId, Seq, Timestamp, header, subject,
};

use crate::message::{COMMAND_ID, correlation, is_traceparent};
use crate::port::Unreadable;

/// Largest body of a command or run command. What it becomes must fit a message of 1 MiB with its
/// headers; what is larger belongs in the blob store.
pub(crate) const COMMAND_BYTES_MAX: usize = 768 * 1024;

/// Longest part of a parser's message that is passed on.
const REASON_CHARS_MAX: usize = 300;

/// A message as any transport delivers it.
pub(crate) struct Incoming<'a> {
    pub(crate) subject: &'a str,
    pub(crate) header: &'a dyn Fn(&str) -> Option<&'a str>,
    pub(crate) body: &'a [u8],
    pub(crate) seq: Seq,
    pub(crate) at: Timestamp,
}

impl Incoming<'_> {
    /// The sender's id of the command, else one that each delivery derives again.
    fn command_id(&self) -> CommandId {
        match (self.header)(COMMAND_ID).or_else(|| (self.header)(header::MSG_ID)) {
            Some(text) => text
                .parse()
                .unwrap_or_else(|_| CommandId::derived(format_args!("message {text}"))),
            None => CommandId::derived(format_args!("position {} of {}", self.seq, self.at.0)),
        }
    }

    fn actor(&self) -> Actor {
        (self.header)(header::ACTOR).map_or_else(Actor::anonymous, Actor::from_header)
    }

    fn correlation(&self, id: CommandId) -> String {
        let given = (self.header)(header::CORRELATION).and_then(correlation);
        let traced = || (self.header)(header::TRACEPARENT).filter(|text| is_traceparent(text));
        given
            .or_else(|| traced().map(str::to_owned))
            .unwrap_or_else(|| id.to_string())
    }

    /// Only an inbox: an answer to any other subject would let a sender write, by the engine's
    /// hand, where it may not write itself.
    fn reply_to(&self) -> Option<String> {
        (self.header)(header::REPLY_TO)
            .filter(|text| is_inbox(text))
            .map(str::to_owned)
    }

    fn refused(&self, command: CommandId, rejection: Rejection) -> Unreadable {
        Unreadable {
            org: subject::parse_org(self.subject),
            command,
            reply_to: self.reply_to(),
            rejection,
        }
    }
}

/// Whether the subject is an inbox, and nothing else.
pub(crate) fn is_inbox(text: &str) -> bool {
    text.len() <= 256
        && text.strip_prefix("_INBOX.").is_some_and(|rest| {
            rest.split('.').all(|token| {
                !token.is_empty()
                    && token
                        .bytes()
                        .all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'>'))
            })
        })
}

/// Reads a command.
pub(crate) fn command(message: &Incoming<'_>) -> Result<CommandEnvelope, Unreadable> {
    let id = message.command_id();
    read_command(message, id).map_err(|rejection| message.refused(id, rejection))
}

fn read_command(message: &Incoming<'_>, id: CommandId) -> Result<CommandEnvelope, Rejection> {
    let key = subject::parse_key(message.subject).map_err(|error| {
        let code = match error {
            subject::Error::Shape(_) => Code::MalformedCommand,
            subject::Error::Kind(_) => Code::UnknownKind,
            subject::Error::Name(_) => Code::InvalidName,
        };
        Rejection::new(code, error.to_string())
    })?;
    if key.kind == Kind::Run {
        return Err(Rejection::new(
            Code::UnknownKind,
            "a run is asked for on dispatch.runcmd.<org>.<function>.<run id>",
        ));
    }
    let command: Command = body(message.body)?;
    if let Command::Create(spec) | Command::Update(spec) = &command
        && spec.kind() != key.kind
    {
        return Err(Rejection::new(
            Code::WrongKind,
            format!(
                "the subject names a {}, the body is a {}",
                key.kind,
                spec.kind()
            ),
        ));
    }
    Ok(CommandEnvelope {
        id,
        key,
        command,
        actor: message.actor(),
        correlation: message.correlation(id),
        reply_to: message.reply_to(),
        at: message.at,
    })
}

/// Reads a run command.
pub(crate) fn run(message: &Incoming<'_>) -> Result<RunEnvelope, Unreadable> {
    let tokens: Vec<&str> = message.subject.split('.').collect();
    let run_id: Option<RunId> = tokens.get(4).and_then(|token| token.parse().ok());
    let id = run_id.map_or_else(|| message.command_id(), |run| CommandId(run.0));
    read_run(message, &tokens, run_id).map_err(|rejection| message.refused(id, rejection))
}

fn read_run(
    message: &Incoming<'_>,
    tokens: &[&str],
    id: Option<RunId>,
) -> Result<RunEnvelope, Rejection> {
    let shape = || {
        Rejection::new(
            Code::MalformedCommand,
            "a run is asked for on dispatch.runcmd.<org>.<function>.<run id>, the id a UUID",
        )
    };
    let (["dispatch", "runcmd", org, function, _, rest @ ..], Some(id)) = (tokens, id) else {
        return Err(shape());
    };
    let name =
        |error: engine_model::InvalidName| Rejection::new(Code::InvalidName, error.to_string());
    let org = engine_model::OrgName::new(*org).map_err(name)?;
    let function = engine_model::Name::new(*function).map_err(name)?;
    let command = match rest {
        [] => body::<RunCommand>(message.body)?,
        // The subject says all that there is to say.
        ["cancel"] => RunCommand::cancelling(),
        _ => return Err(shape()),
    };
    Ok(RunEnvelope {
        id: command.run_id(id, &org, &function)?,
        org,
        function,
        command,
        actor: message.actor(),
        reply_to: message.reply_to(),
        at: message.at,
    })
}

fn body<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Rejection> {
    if bytes.len() > COMMAND_BYTES_MAX {
        return Err(Rejection::new(
            Code::TooLarge,
            format!(
                "{} bytes are more than the {COMMAND_BYTES_MAX} of a command: put what is large \
                 into the blob store and name its digest",
                bytes.len()
            ),
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let shape = if error.is_data() {
            "not a command"
        } else {
            "not JSON"
        };
        Rejection::new(
            Code::MalformedCommand,
            format!("{shape}: {}", without_values(&error)),
        )
    })
}

/// What the parser said, without the values that it quotes.
pub(crate) fn without_values(error: &serde_json::Error) -> String {
    let text = hide_backticked(&hide_quoted(&error.to_string(), '"'));
    // A refused name stands in apostrophes at the beginning.
    let text = if text.starts_with('\'') {
        hide_quoted(&text, '\'')
    } else {
        text
    };
    text.chars()
        .filter(|c| !c.is_control())
        .take(REASON_CHARS_MAX)
        .collect()
}

/// Replaces what stands between the first and the last `quote`; a value may contain the quote.
fn hide_quoted(text: &str, quote: char) -> String {
    match (text.find(quote), text.rfind(quote)) {
        (Some(first), Some(last)) if first < last => {
            format!(
                "{}{quote}…{quote}{}",
                &text[..first],
                &text[last + quote.len_utf8()..]
            )
        }
        _ => text.to_owned(),
    }
}

/// Hides the value that stands in the first backticks, unless it is the name of a field. The
/// backticks after "expected" name what the program knows.
fn hide_backticked(text: &str) -> String {
    let tail_at = text.find(", expected").unwrap_or(text.len());
    let (head, tail) = text.split_at(tail_at);
    if head.starts_with("missing field") || head.starts_with("duplicate field") {
        return text.to_owned();
    }
    let field = head
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.strip_suffix('`'));
    let plain = |name: &str| {
        name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if field.is_some_and(plain) {
        return text.to_owned();
    }
    format!("{}{tail}", hide_quoted(head, '`'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming<'a>(
        subject: &'a str,
        header: &'a dyn Fn(&str) -> Option<&'a str>,
        body: &'a [u8],
    ) -> Incoming<'a> {
        Incoming {
            subject,
            header,
            body,
            seq: Seq(7),
            at: Timestamp(1_700_000_000_000),
        }
    }

    fn code_of(subject: &str, body: &[u8]) -> (Code, String) {
        let rejection = command(&incoming(subject, &|_| None, body))
            .unwrap_err()
            .rejection;
        (rejection.code, rejection.message)
    }

    #[test]
    fn a_command_without_headers_is_named_by_its_position() {
        let body = br#"{"Delete":{}}"#;
        let message = incoming("dispatch.cmd.acme.image.i", &|_| None, body);
        let one = command(&message).unwrap();
        let again = command(&message).unwrap();
        assert_eq!(one.id, again.id);
        assert_eq!(one.actor, Actor::anonymous());
        assert_eq!(one.correlation, one.id.to_string());
        let other = command(&Incoming {
            seq: Seq(8),
            ..message
        })
        .unwrap();
        assert_ne!(one.id, other.id);
    }

    #[test]
    fn each_fault_has_its_code() {
        let (code, message) = code_of("dispatch.cmd.acme.image.i", b"{\"Create\":");
        assert_eq!(code, Code::MalformedCommand);
        assert!(message.contains("not JSON: EOF while parsing"), "{message}");
        assert_eq!(
            code_of("dispatch.cmd.acme.gizmo.i", b"{}").0,
            Code::UnknownKind
        );
        assert_eq!(
            code_of("dispatch.cmd.acme.run.i", b"{}").0,
            Code::UnknownKind
        );
        assert_eq!(
            code_of("dispatch.cmd.acme.image.-i", b"{}").0,
            Code::InvalidName
        );
        assert_eq!(
            code_of("dispatch.cmd.acme.image", b"{}").0,
            Code::MalformedCommand
        );
        let (code, message) = code_of(
            "dispatch.cmd.acme.image.i",
            br#"{"Create":{"BaseImage":{"language":"python3"}}}"#,
        );
        assert_eq!(code, Code::WrongKind);
        assert_eq!(
            message,
            "the subject names a Image, the body is a BaseImage"
        );
        let large = vec![b' '; COMMAND_BYTES_MAX + 1];
        assert_eq!(
            code_of("dispatch.cmd.acme.image.i", &large).0,
            Code::TooLarge
        );
    }

    #[test]
    fn a_refusal_never_repeats_a_value() {
        let subject = "dispatch.cmd.acme.baseimage.b";
        for body in [
            r#"{"Create":{"BaseImage":"hunter2 \" , expected hunter2"}}"#,
            r#"{"Create":{"BaseImage":{"language":12345678}}}"#,
            r#"{"Create":{"BaseImage":{"language":"x","tags":"hunter2"}}}"#,
            r#"{"Create":{"hunter2":{}}}"#,
            r#""hunter2""#,
            r#"{"Create":{"Image":{"baseImageName":"hunter2 it's"}}}"#,
            r#"{"Create":{"BaseImage":{"hunter2 is my password":1}}}"#,
        ] {
            let (code, message) = code_of(subject, body.as_bytes());
            assert_eq!(code, Code::MalformedCommand, "{body}");
            assert!(
                !message.contains("hunter2") && !message.contains("12345678"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_where() {
        let subject = "dispatch.cmd.acme.baseimage.b";
        let (_, message) = code_of(subject, br#"{"Create":{"BaseImage":{"langage":"x"}}}"#);
        assert!(
            message.contains("unknown field `langage`, expected one of"),
            "{message}"
        );
        assert!(message.contains("line 1 column"), "{message}");
        let (_, message) = code_of(subject, br#"{"Create":{"BaseImage":{}}}"#);
        assert!(message.contains("missing field `language`"), "{message}");
        let (_, message) = code_of(subject, br#"{"Make":{}}"#);
        assert!(message.contains("expected one of `Create`"), "{message}");
    }

    #[test]
    fn only_an_inbox_is_answered() {
        let body = br#"{"Delete":{}}"#;
        let reply = |to: &'static str| {
            let header = move |name: &str| (name == header::REPLY_TO).then_some(to);
            command(&incoming("dispatch.cmd.acme.image.i", &header, body))
                .unwrap()
                .reply_to
        };
        assert_eq!(reply("_INBOX.a.b").as_deref(), Some("_INBOX.a.b"));
        for forbidden in [
            "dispatch.evt.acme.image.i",
            "_INBOX.*",
            "_INBOX.>",
            "_INBOX.",
            "$JS.x",
        ] {
            assert_eq!(reply(forbidden), None, "{forbidden}");
        }
    }

    #[test]
    fn a_message_id_that_is_no_uuid_still_names_the_command() {
        let header = |name: &str| (name == header::MSG_ID).then_some("my-own-id");
        let one = command(&incoming("dispatch.cmd.a.image.i", &header, b"\"Retry\"")).unwrap();
        let two = Incoming {
            seq: Seq(99),
            ..incoming("dispatch.cmd.a.image.i", &header, b"\"Retry\"")
        };
        assert_eq!(one.id, command(&two).unwrap().id);
    }

    #[test]
    fn a_run_is_named_by_its_subject() {
        let id = RunId::derived(format_args!("r"));
        let good = format!("dispatch.runcmd.acme.hello.{id}");
        let envelope = run(&incoming(&good, &|_| None, br#"{"input":{"a":1}}"#)).unwrap();
        assert_eq!((envelope.id, envelope.function.as_str()), (id, "hello"));
        let refused = run(&incoming(&good, &|_| None, b"{\"inptu\":1}")).unwrap_err();
        assert_eq!(refused.command, CommandId(id.0));
        assert_eq!(refused.rejection.code, Code::MalformedCommand);
        let nameless = run(&incoming("dispatch.runcmd.acme.hello.x", &|_| None, b"{}"));
        assert_eq!(nameless.unwrap_err().rejection.code, Code::MalformedCommand);
    }
}
