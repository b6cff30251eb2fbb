//! The accounts as SASL asks for them.

use net::sasl::{Credentials, ScramVerifier, Unavailable};

use super::LiveRouter;

/// Looks names up among the accounts in force.
pub(crate) struct AccountCredentials(LiveRouter);

impl AccountCredentials {
    pub(crate) fn new(router: LiveRouter) -> Self {
        Self(router)
    }
}

impl Credentials for AccountCredentials {
    async fn verifier(&self, name: &str) -> Result<Option<ScramVerifier>, Unavailable> {
        let router = self.0.get();
        // A suspended account is none: whoever knows its password learns no more than that it no longer serves.
        let account = router.accounts().get(name).filter(|account| !account.is_suspended());
        let Some(account) = account else { return Ok(None) };
        account.verifier().to_string().parse().map(Some).map_err(|_| Unavailable)
    }
}
