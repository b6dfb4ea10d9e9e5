//! What the coordinator asks of everybody before the load, and what has one answer.

use std::time::Duration;

use spillway_types::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Staff, Worker, check_people};
use crate::workers::WorkersError;
use crate::workers::session::pieces;
use crate::workers::wire::{Answer, Assignment, Start};
use crate::workload::Contact;

/// For the answer to a question that has one at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

impl Staff {
    /// Gives everybody a part, as large as the machine among all.
    ///
    /// # Errors
    ///
    /// When somebody would have less than two people.
    pub(crate) fn share_out(&mut self) -> Result<(), WorkersError> {
        self.workers.sort_by_key(|worker| worker.number);
        let cores: Vec<_> = self.workers.iter().map(|worker| worker.hello.cores).collect();
        let parts = check_people(&cores, self.existing)?;
        for (worker, part) in self.workers.iter_mut().zip(parts) {
            worker.part = part;
        }
        Ok(())
    }

    /// Tells everybody at once what to play.
    ///
    /// # Errors
    ///
    /// When one of them cannot.
    pub(crate) async fn assign(&mut self, of: impl Fn(&Worker) -> Assignment) -> Result<(), WorkersError> {
        let questions = self.workers.iter().map(|worker| (worker.number, of(worker))).collect();
        self.ask_all("plan", questions).await
    }

    /// Whether everybody's people have an account.
    pub(crate) fn are_ready(&self) -> bool {
        self.workers.iter().all(|worker| worker.accounts.whole().is_some())
    }

    /// Tells everybody who there is.
    ///
    /// # Errors
    ///
    /// When somebody does not answer.
    pub(crate) async fn introduce(&mut self) -> Result<usize, WorkersError> {
        let mut all: Vec<Contact> =
            self.workers.iter().filter_map(|worker| worker.accounts.whole()).flatten().collect();
        all.sort_by_key(|contact| contact.index);
        for accounts in pieces(0, &all) {
            let questions = self.workers.iter().map(|worker| (worker.number, accounts.clone())).collect();
            self.ask_all("people", questions).await?;
        }
        Ok(all.len())
    }

    /// # Errors
    ///
    /// When somebody does not answer before it begins.
    pub(crate) async fn start(&mut self, at: Timestamp) -> Result<(), WorkersError> {
        let start = Start { micros: at.as_micros() };
        let questions = self.workers.iter().map(|worker| (worker.number, start)).collect();
        self.ask_all("start", questions).await
    }

    async fn ask_all<T: serde::Serialize + Send + Sync + 'static>(
        &mut self,
        subject: &str,
        questions: Vec<(u32, T)>,
    ) -> Result<(), WorkersError> {
        let mut asked = JoinSet::new();
        for (number, question) in questions {
            let (link, subject) = (self.link.clone(), format!("{subject}.{number}"));
            asked.spawn(
                async move { (number, link.insist::<Answer>(&subject, &question, ANSWER_WITHIN).await) },
            );
        }
        // Meanwhile everybody else is heard: who asks something himself, and was not answered in time, answers nothing before he is.
        loop {
            let answered = tokio::select! {
                answered = asked.join_next() => answered,
                _ = self.hear() => continue,
            };
            let Some(answered) = answered else { break };
            let Ok((number, answer)) = answered else { continue };
            match answer? {
                Answer::Yes => {}
                Answer::No(reason) => {
                    return Err(WorkersError::Refused { number, host: self.host(number), reason });
                }
            }
        }
        // Who has answered is there, whatever else was said meanwhile and has not been read.
        let now = Instant::now();
        self.workers.iter_mut().for_each(|worker| worker.last_word = now);
        Ok(())
    }
}
