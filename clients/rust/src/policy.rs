//! Deadlines and repeats of the contract. tonic takes no gRPC service config, so this reads ours and does what it says.

use std::{error::Error, future::Future, time::Duration};

use serde_json::Value;
use tonic::{Code, Request, Response, Status};

const CONFIG: &str = include_str!("../../service_config.json");

/// What the contract says of each method.
pub struct Policies(Value);

struct Policy {
    timeout: Duration,
    attempts: u64,
    first_backoff: Duration,
    last_backoff: Duration,
}

impl Policies {
    pub fn read() -> Result<Self, Box<dyn Error>> {
        Ok(Self(serde_json::from_str(CONFIG)?))
    }

    /// Calls a unary method within its deadline; on UNAVAILABLE again, where the contract allows it.
    ///
    /// `method` is `OrderService/GetOrder`; `call` makes one attempt.
    pub async fn call<Message, Answer, Attempt>(
        &self,
        method: &str,
        message: Message,
        mut call: impl FnMut(Request<Message>) -> Attempt,
    ) -> Result<Answer, Status>
    where
        Message: Clone,
        Attempt: Future<Output = Result<Response<Answer>, Status>>,
    {
        let policy = self.of(method).ok_or_else(|| Status::internal(format!("{method} has no policy")))?;
        let mut backoff = policy.first_backoff;
        let mut attempt = 1;
        loop {
            let mut request = Request::new(message.clone());
            request.set_timeout(policy.timeout);
            match call(request).await {
                Err(status) if status.code() == Code::Unavailable && attempt < policy.attempts => {
                    tokio::time::sleep(backoff).await;
                    backoff = (2 * backoff).min(policy.last_backoff);
                    attempt += 1;
                }
                result => return result.map(Response::into_inner),
            }
        }
    }

    fn of(&self, method: &str) -> Option<Policy> {
        let (service, method) = method.split_once('/')?;
        let service = format!("venuemesh.v1.{service}");
        let named = |name: &Value| name["service"] == service.as_str() && name["method"] == method;
        let entry = self.0["methodConfig"]
            .as_array()?
            .iter()
            .find(|entry| entry["name"].as_array().is_some_and(|names| names.iter().any(named)))?;
        let retry = &entry["retryPolicy"];
        Some(Policy {
            timeout: seconds(&entry["timeout"])?,
            attempts: retry["maxAttempts"].as_u64().unwrap_or(1),
            first_backoff: seconds(&retry["initialBackoff"]).unwrap_or_default(),
            last_backoff: seconds(&retry["maxBackoff"]).unwrap_or_default(),
        })
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(value.as_str()?.strip_suffix('s')?.parse().ok()?).ok()
}
