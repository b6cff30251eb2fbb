//! Those who use the servers: authors who submit messages, operators who command the queue.

use std::time::Duration;

use mail::ledger::{ContentFacts, ObjectKey, ObjectRef, Source};
use mail::{MailParams, Notify, Recipient};
use queue::port::{Acceptance, Command, Input, Request, Selection};

use crate::judge::Violation;
use crate::scenario::{self, Order};
use crate::server::Caller;
use crate::world::{Event, World};

/// NOTIFY=SUCCESS,FAILURE,DELAY.
const ALL_NEWS: Notify = Notify::On { success: true, failure: true, delay: true };

impl World {
    pub(crate) fn submit(&mut self, number: usize) -> Result<(), Violation> {
        let mail = &self.scenario.mails[number];
        let server = mail.server;
        if self.servers[server].node.is_none() {
            self.after(Duration::from_secs(600), Event::Submit(number));
            return Ok(());
        }
        let xuid = self.judge.xuid(number);
        let content = ObjectRef { key: ObjectKey(String::new()), xuid, size: mail.size, coded: None };
        let (topology, success) = (self.topology(), mail.success);
        let recipients = mail.recipients.iter().filter_map(|to| {
            let targets = scenario::targets(&topology, server, to)?;
            let notify = if success { ALL_NEWS } else { Notify::Unspecified };
            Some((Recipient { notify, ..Recipient::plain(to.clone()) }, targets))
        });
        let recipients: Vec<_> = recipients.collect();
        if recipients.len() < mail.recipients.len() {
            // Refused at RCPT: nothing was accepted.
            return Ok(());
        }
        let acceptance = Acceptance {
            queue_id: self.queue_ids[number].clone(),
            mail_from: mail.author.clone(),
            params: MailParams { envid: Some(format!("m{number}")), ..MailParams::default() },
            recipients,
            object: self.servers[server].store(&content, None),
            facts: ContentFacts { is_object: true, eight_bit: false, tls_optional: false, received_fields: 0 },
            prefix: String::new(),
            seal: String::new(),
            source: Source::Local,
            once: None,
        };
        let call = self.servers[server].call(Caller::Submitter { case: number });
        self.input(self.here(server), Input::Call { call, request: Request::Accept(Box::new(acceptance)) })
    }

    pub(crate) fn order(&mut self, number: usize, order: Order) -> Result<(), Violation> {
        let server = self.scenario.mails[number].server;
        if self.servers[server].node.is_none() {
            self.after(Duration::from_secs(900), Event::Order(number, order));
            return Ok(());
        }
        let selection = Selection::Message(self.queue_ids[number].clone());
        let command = match order {
            Order::Withdraw => Command::Withdraw(selection),
            Order::Fail => Command::Fail(selection),
            Order::Hold => Command::Hold(selection),
            Order::Release => Command::Release(selection),
            Order::Retry => Command::Retry(selection),
        };
        let caller = Caller::Operator { case: number, recalls: order == Order::Withdraw };
        let call = self.servers[server].call(caller);
        self.input(self.here(server), Input::Call { call, request: Request::Command(command) })
    }
}
