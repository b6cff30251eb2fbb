//! What each command does: the order that RFC 5321 §4.1.4 asks for, and the questions to the driver.

use mail::{Address, Domain, Recipient};

use super::event::{AuthStep, Event, OfferedRecipient};
use super::{OfferTbr, Question, Role, Server, State};
use crate::capability::{Announced, Capabilities, MAX_LIMIT};
use crate::command::{Auth, Command, Etrn, HelloName, Mail, Rcpt, SyntaxError, Verb, auth};
use crate::reply::{Reply, catalogue};

impl Server {
    /// Does this verb exist here and now? Where not, it is answered 502 and means nothing.
    pub(super) fn offers(&self, verb: Verb) -> bool {
        let on_demand = self.config.role == Role::OnDemand;
        match verb {
            Verb::Mail | Verb::Rcpt | Verb::Data | Verb::Bdat | Verb::Tbr | Verb::Etrn | Verb::Vrfy if on_demand => {
                false
            }
            Verb::Atrn => on_demand,
            Verb::StartTls => self.config.starttls,
            Verb::Auth => !self.config.mechanisms.is_empty(),
            Verb::Bdat => self.config.chunking,
            Verb::Tbr => self.connection.tbr,
            Verb::Etrn => self.config.etrn,
            Verb::Lhlo | Verb::Expn => false,
            _ => true,
        }
    }

    /// What EHLO says now.
    pub(super) fn capabilities(&self) -> Capabilities {
        let (config, tls) = (&*self.config, self.connection.tls);
        let on_demand = config.role == Role::OnDemand;
        let auth_possible = (tls || config.auth_in_clear) && !self.connection.authenticated;
        let tbr_possible = match config.tbr {
            OfferTbr::Never => false,
            OfferTbr::InsideTls => tls,
            OfferTbr::Always => true,
        };
        Capabilities {
            pipelining: true,
            size: (!on_demand).then_some(config.limits.message),
            eight_bit_mime: !on_demand,
            enhanced_status_codes: true,
            starttls: config.starttls && !tls,
            chunking: config.chunking && !on_demand,
            dsn: !on_demand,
            etrn: config.etrn && !on_demand,
            atrn: on_demand,
            smtputf8: config.smtputf8 && !on_demand,
            requiretls: config.requiretls && tls && !on_demand,
            auth: if auth_possible { config.mechanisms.clone() } else { Vec::new() },
            limits: if on_demand {
                Announced::default()
            } else {
                Announced {
                    transactions: config.limits.transactions.map(|most| most.clamp(1, MAX_LIMIT)),
                    recipients: u32::try_from(config.limits.recipients)
                        .ok()
                        .filter(|most| (1..=MAX_LIMIT).contains(most)),
                    domains: None,
                }
            },
            tbr: tbr_possible && config.role == Role::Relay,
        }
    }

    pub(super) fn dispatch(&mut self, command: Command) {
        match command {
            Command::Helo(name) => self.hello(name, false),
            Command::Ehlo(name) => self.hello(name, true),
            Command::StartTls => self.start_tls(),
            Command::Auth(auth) => self.auth(auth),
            Command::Mail(mail) => self.mail(mail),
            Command::Rcpt(Rcpt(recipient)) => self.rcpt(recipient),
            Command::Data => self.data(),
            Command::Bdat(bdat) => self.bdat(bdat),
            Command::Etrn(etrn) => self.etrn(etrn),
            Command::Atrn(domains) => self.atrn(domains),
            Command::Rset => {
                self.reset();
                self.answer(catalogue::done());
            }
            Command::Noop => self.answer(catalogue::done()),
            Command::Help => self.answer(catalogue::help()),
            Command::Vrfy(_) => self.answer(catalogue::cannot_verify()),
            Command::Quit => self.quit(),
            // Caught before they are parsed.
            Command::Tbr(_) | Command::Lhlo(_) | Command::Expn(_) => self.answer(catalogue::not_implemented()),
        }
    }

    fn hello(&mut self, name: HelloName, extended: bool) {
        self.reset();
        self.ask(Question::Hello { extended }, Event::Hello { name, extended });
    }

    fn start_tls(&mut self) {
        if self.connection.tls {
            self.answer(catalogue::already_tls());
        } else if !self.connection.greeted {
            self.answer(catalogue::hello_first());
        } else if self.connection.authenticated {
            self.answer(catalogue::starttls_not_now());
        } else {
            self.reset();
            self.answer(catalogue::ready_for_tls());
            // Whatever came in clear behind STARTTLS is not the client's (RFC 3207 §4.2, CVE-2011-0411).
            self.drop_input();
            self.state = State::Tls;
        }
    }

    /// RFC 1985 §5: after the greeting, and not amid a transaction.
    fn etrn(&mut self, etrn: Etrn) {
        if !self.connection.greeted {
            self.answer(catalogue::hello_first());
        } else if self.transaction.is_some() {
            self.answer(catalogue::not_amid_transaction());
        } else if matches!(etrn, Etrn::Queue(_)) {
            self.answer(catalogue::no_such_queue());
        } else {
            self.ask(Question::Etrn, Event::Etrn(etrn));
        }
    }

    /// RFC 2645 §5.2.2: never before AUTH. There are no transactions here.
    fn atrn(&mut self, domains: Vec<Domain>) {
        if !self.connection.greeted {
            self.answer(catalogue::hello_first());
        } else if !self.connection.authenticated {
            self.answer(catalogue::auth_required());
        } else {
            self.ask(Question::Atrn, Event::Atrn(domains));
        }
    }

    fn quit(&mut self) {
        self.reset();
        self.events.push_back(Event::Quit);
        self.answer(catalogue::bye());
        self.close();
    }

    fn auth(&mut self, auth: Auth) {
        let connection = &self.connection;
        if !connection.greeted {
            self.answer(catalogue::hello_first());
        } else if connection.authenticated || self.transaction.is_some() {
            self.answer(catalogue::auth_not_now());
        } else if !connection.tls && !self.config.auth_in_clear {
            self.answer(catalogue::auth_needs_tls());
        } else if !self.config.mechanisms.contains(&auth.mechanism) {
            self.answer(catalogue::unknown_mechanism());
        } else {
            let Auth { mechanism, initial } = auth;
            self.ask(Question::Auth, Event::Auth(AuthStep::Start { mechanism, initial }));
        }
    }

    /// The answer to a challenge, in base64.
    pub(super) fn take_response(&mut self, line: &[u8]) {
        match auth::decode(line) {
            Ok(response) => self.ask(Question::Auth, Event::Auth(AuthStep::Response(response))),
            Err(error) => {
                self.events.push_back(Event::AuthCancelled);
                self.answer(error.reply());
            }
        }
    }

    fn mail(&mut self, mail: Mail) {
        let most = self.config.limits.transactions.map_or(u32::MAX, |most| most.clamp(1, MAX_LIMIT));
        match self.mail_refusal(&mail) {
            Some(reply) => self.answer(reply),
            None if self.transactions >= most => self.say(&catalogue::too_many_transactions()),
            None => {
                self.transactions += 1;
                self.ask(Question::Mail { smtputf8: mail.params.smtputf8 }, Event::Mail(mail));
            }
        }
    }

    fn mail_refusal(&self, mail: &Mail) -> Option<Reply> {
        let (config, params) = (&*self.config, &mail.params);
        let requiretls_offered = config.requiretls && self.connection.tls;
        if !self.connection.greeted {
            Some(catalogue::hello_first())
        } else if config.role == Role::Submission && !self.connection.authenticated {
            Some(catalogue::auth_required())
        } else if self.transaction.is_some() {
            Some(catalogue::nested_mail())
        } else if (params.smtputf8 && !config.smtputf8) || (params.requiretls && !requiretls_offered) {
            Some(SyntaxError::UnknownParameter.reply())
        } else if params.size.is_some_and(|size| size > config.limits.message) {
            Some(catalogue::too_big(config.limits.message))
        } else if !params.smtputf8 && mail.from.as_ref().is_some_and(Address::needs_smtputf8) {
            Some(catalogue::needs_smtputf8())
        } else {
            None
        }
    }

    fn rcpt(&mut self, recipient: Recipient) {
        let (limit, keep) = (self.config.limits.recipients, self.connection.tbr);
        let Some(transaction) = &mut self.transaction else {
            return self.answer(catalogue::mail_first());
        };
        if transaction.content.is_some() {
            return self.answer(catalogue::amid_chunks());
        }
        if keep {
            let address = recipient.address.clone();
            transaction.tried.push(OfferedRecipient { address, accepted: false });
        }
        if transaction.accepted >= limit {
            self.answer(catalogue::too_many_recipients());
        } else if recipient.address.needs_smtputf8() && !transaction.smtputf8 {
            self.answer(catalogue::needs_smtputf8());
        } else {
            self.ask(Question::Rcpt, Event::Rcpt(recipient));
        }
    }
}
