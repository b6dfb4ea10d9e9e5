use std::time::Duration;

use reqwest::Response;
use reqwest::header::RETRY_AFTER;

use spillway_rpc::Chain;

use super::ProviderError;

/// When a provider that throttles does not say for how long.
const THROTTLED: Duration = Duration::from_secs(1);

/// The address may hold a password, so it stays out of the error. What has left may have been acted on, whatever became of the answer.
pub(super) fn failed(error: reqwest::Error) -> ProviderError {
    if error.is_connect() || error.is_builder() {
        ProviderError::Failed(Box::new(error.without_url()))
    } else {
        tracing::debug!(error = %Chain(&error.without_url()), "a provider did not answer");
        ProviderError::Unanswered
    }
}

/// Seconds only: a date would need a clock that agrees with the provider's.
pub(super) fn retry_after(response: &Response) -> Duration {
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    header.and_then(|text| text.parse().ok()).map_or(THROTTLED, Duration::from_secs)
}
