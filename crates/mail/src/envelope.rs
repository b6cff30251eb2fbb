//! The SMTP envelope: who sends, to whom, and the parameters that travel onward (RFC 5321, 3461, 6152,
//! 6531, 8689).

use serde::{Deserialize, Serialize};

use crate::address::Address;

/// An envelope. `mail_from` is `None` for the null sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The reverse-path; `None` is `<>`.
    pub mail_from: Option<Address>,
    /// Parameters of MAIL.
    #[serde(default)]
    pub params: MailParams,
    /// In the order in which they were given.
    pub recipients: Vec<Recipient>,
}

/// Parameters of the MAIL command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MailParams {
    /// SIZE (RFC 1870): declared octets; a hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// BODY (RFC 6152).
    #[serde(default)]
    pub body: Body,
    /// SMTPUTF8 (RFC 6531).
    #[serde(default)]
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689).
    #[serde(default)]
    pub requiretls: bool,
    /// RET (RFC 3461 §4.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<DsnReturn>,
    /// ENVID (RFC 3461 §4.4): the xtext as sent, at most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
}

/// What the client says of the content's octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// Nothing said, or 7BIT.
    #[default]
    SevenBit,
    /// 8BITMIME.
    EightBit,
}

/// How much of the message a failure report returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DsnReturn {
    /// The whole message.
    Full,
    /// Its header only.
    Hdrs,
}

/// One recipient with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The forward-path.
    pub address: Address,
    /// NOTIFY (RFC 3461 §4.1).
    #[serde(default, skip_serializing_if = "Notify::is_default")]
    pub notify: Notify,
    /// ORCPT (RFC 3461 §4.2): `type;xtext` as sent, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
}

impl Recipient {
    /// A recipient without parameters.
    pub fn plain(address: Address) -> Self {
        Self { address, notify: Notify::default(), orcpt: None }
    }
}

/// When a recipient's fate is reported to the author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// Nothing said: failures, and delays where the server reports them.
    #[default]
    Unspecified,
    /// NEVER.
    Never,
    /// Any set of the three words.
    On {
        /// SUCCESS.
        success: bool,
        /// FAILURE.
        failure: bool,
        /// DELAY.
        delay: bool,
    },
}

impl Notify {
    /// Was nothing said?
    pub fn is_default(&self) -> bool {
        *self == Self::Unspecified
    }

    /// Does the author want to hear of success?
    pub fn success(self) -> bool {
        matches!(self, Self::On { success: true, .. })
    }

    /// Does the author want to hear of failure?
    pub fn failure(self) -> bool {
        matches!(self, Self::Unspecified | Self::On { failure: true, .. })
    }

    /// Does the author want to hear of delay?
    pub fn delay(self) -> bool {
        matches!(self, Self::Unspecified | Self::On { delay: true, .. })
    }
}
