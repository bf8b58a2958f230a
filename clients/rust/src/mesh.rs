//! What every client of the mesh needs: a channel, a submit that never guesses, a stream that misses nothing.

use std::{env, error::Error, fmt, fs, time::Duration};

use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt;

use crate::policy::Policies;
use crate::v1::{
    ExecutionReport, GetOrderRequest, NewOrder, Order, OrderReference, OrderStatus, ResumeOutcome,
    StreamExecutionReportsRequest, StreamExecutionReportsResponse, StreamOptions, StreamPosition, SubmitOrderRequest,
    SubmitOutcome, event::Payload, order_reference::Id, order_service_client::OrderServiceClient,
    stream_execution_reports_response::Body,
};

/// An example ends; a real follower sets no deadline.
pub const STREAM_LIMIT: Duration = Duration::from_secs(60);
const READ_BACK_ATTEMPTS: u32 = 10;
const READ_BACK_PAUSE: Duration = Duration::from_millis(300);
const RECONNECT_ATTEMPTS: u32 = 5;
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

pub type Transport = InterceptedService<Channel, Bearer>;
pub type Orders = OrderServiceClient<Transport>;

/// Where the mesh is and what to trade.
pub struct Settings {
    pub router: String,
    pub aggregator: String,
    pub ca_file: String,
    pub token_file: String,
    pub account: String,
    pub venue: String,
    pub symbol: String,
    pub quantity: String,
}

impl Settings {
    /// Reads VENUEMESH_...; defaults are those of the local mesh.
    pub fn from_environment() -> Self {
        let setting = |name: &str, otherwise: &str| {
            env::var(format!("VENUEMESH_{name}")).unwrap_or_else(|_| otherwise.to_owned())
        };
        Self {
            router: setting("ROUTER", "127.0.0.1:50050"),
            aggregator: setting("AGGREGATOR", "127.0.0.1:50060"),
            ca_file: setting("CA_FILE", ""),
            token_file: setting("TOKEN_FILE", ""),
            account: setting("ACCOUNT", "main"),
            venue: setting("VENUE", "hyperliquid"),
            symbol: setting("SYMBOL", "BTC/USDC:USDC"),
            quantity: setting("QUANTITY", "0.001"),
        }
    }
}

/// Adds the token to every call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A channel, with TLS and token where they are set.
pub async fn connect(target: &str, settings: &Settings) -> Result<Transport, Box<dyn Error>> {
    let secured = !settings.ca_file.is_empty();
    if !secured && !settings.token_file.is_empty() {
        return Err("VENUEMESH_TOKEN_FILE needs VENUEMESH_CA_FILE: a token goes over TLS only".into());
    }
    let mut endpoint = Endpoint::from_shared(format!("{}://{target}", if secured { "https" } else { "http" }))?
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(5));
    let mut token = None;
    if secured {
        let root = Certificate::from_pem(fs::read(&settings.ca_file)?);
        endpoint = endpoint.tls_config(ClientTlsConfig::new().ca_certificate(root))?;
        if !settings.token_file.is_empty() {
            let text = format!("Bearer {}", fs::read_to_string(&settings.token_file)?.trim());
            let mut value: MetadataValue<Ascii> = text.parse()?;
            value.set_sensitive(true);
            token = Some(value);
        }
    }
    Ok(InterceptedService::new(endpoint.connect().await?, Bearer(token)))
}

/// Why a submit has no order to show.
#[derive(Debug)]
pub enum SubmitError {
    /// Nothing was sent.
    NotSent(Status),
    /// The order of this key may be live. Only the same key may be submitted again.
    OutcomeUnknown(String),
}

impl fmt::Display for SubmitError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(status) => write!(out, "nothing was sent: {}", status.message()),
            Self::OutcomeUnknown(key) => write!(out, "{key} may be live; repeat only this key"),
        }
    }
}

impl Error for SubmitError {}

/// Sends an order once and says what became of it. An answer that is lost is read back, never replaced by another
/// submit.
pub async fn submit(orders: &Orders, policies: &Policies, order: NewOrder) -> Result<Order, SubmitError> {
    let key = order.client_order_id.clone();
    let request = SubmitOrderRequest { order: Some(order.clone()), ..Default::default() };
    let answer = policies
        .call("OrderService/SubmitOrder", request, |one| {
            let mut orders = orders.clone();
            async move { orders.submit_order(one).await }
        })
        .await;
    match answer {
        Err(status) if proved_not_sent(&status) => return Err(SubmitError::NotSent(status)),
        Err(status) => println!("submit: {key} answer lost, {}; reading back", code_name(status.code())),
        Ok(answer) => {
            let open = matches!(answer.outcome(), SubmitOutcome::Unknown | SubmitOutcome::Pending);
            match answer.order {
                Some(found) if !open => return Ok(found),
                _ => println!("submit: {key} not settled yet; reading back"),
            }
        }
    }
    read_back(orders, policies, order).await
}

async fn read_back(orders: &Orders, policies: &Policies, order: NewOrder) -> Result<Order, SubmitError> {
    let key = order.client_order_id;
    let reference =
        OrderReference { account_id: order.account_id, venue: order.venue, id: Some(Id::ClientOrderId(key.clone())) };
    let request = GetOrderRequest { reference: Some(reference), min_version: None };
    for _ in 0..READ_BACK_ATTEMPTS {
        let answer = policies
            .call("OrderService/GetOrder", request.clone(), |one| {
                let mut orders = orders.clone();
                async move { orders.get_order(one).await }
            })
            .await;
        match answer.map(|answer| answer.order) {
            Ok(Some(found)) if !found.uncertain && found.status() != OrderStatus::PendingNew => return Ok(found),
            Ok(_) => {}
            // NotFound proves nothing: the submit may still be on its way.
            Err(status) => println!("submit: {key} read back failed, {}", code_name(status.code())),
        }
        tokio::time::sleep(READ_BACK_PAUSE).await;
    }
    Err(SubmitError::OutcomeUnknown(key))
}

/// Whether the mesh itself says that no order was attempted; anything else counts as unknown.
fn proved_not_sent(status: &Status) -> bool {
    status
        .get_details_error_info()
        .is_some_and(|info| info.domain == "venuemesh" && info.metadata.get("sent").is_some_and(|sent| sent == "no"))
}

/// The code as other languages write it: DEADLINE_EXCEEDED.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// Execution reports of an account at a venue, each once and in order, over any number of connections.
pub struct Executions {
    /// Of the last message handled. Written to a file, it resumes after a crash too.
    pub position: Option<StreamPosition>,
    orders: Orders,
    account: String,
    venue: String,
    stream: Option<Streaming<StreamExecutionReportsResponse>>,
}

impl Executions {
    /// Takes the orders that are open now, without reporting them.
    pub async fn follow(orders: Orders, account: &str, venue: &str) -> Result<Self, Status> {
        let (account, venue) = (account.to_owned(), venue.to_owned());
        let mut executions = Self { position: None, orders, account, venue, stream: None };
        while !matches!(executions.next().await?.body, Some(Body::SnapshotEnd(_))) {}
        println!("executions: following from sequence {}", executions.sequence());
        Ok(executions)
    }

    pub fn sequence(&self) -> u64 {
        self.position.as_ref().map_or(0, |position| position.sequence)
    }

    /// Waits for the next report. Fails when the stream is refused or cannot be had again.
    pub async fn next_report(&mut self) -> Result<ExecutionReport, Status> {
        loop {
            if let Some(Body::Event(event)) = self.next().await?.body {
                if let Some(Payload::ExecutionReport(report)) = event.payload {
                    return Ok(report);
                }
            }
        }
    }

    /// Drops the connection; the next report is the one behind what was handled.
    pub fn cut(&mut self) {
        self.stream = None;
        println!("executions: cut at sequence {}", self.sequence());
    }

    async fn next(&mut self) -> Result<StreamExecutionReportsResponse, Status> {
        let mut failures = 0;
        loop {
            let why = match self.receive().await {
                Ok(Some(message)) if !matches!(message.body, Some(Body::Closing(_))) && self.follows(&message) => {
                    return Ok(message);
                }
                Ok(_) => "the server closed the stream".to_owned(),
                Err(status) => {
                    failures += 1;
                    if status.code() != Code::Unavailable || failures > RECONNECT_ATTEMPTS {
                        return Err(status);
                    }
                    code_name(status.code())
                }
            };
            println!("executions: lost at sequence {}, {why}", self.sequence());
            self.stream = None;
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn receive(&mut self) -> Result<Option<StreamExecutionReportsResponse>, Status> {
        if self.stream.is_none() {
            let options = StreamOptions { resume_after: self.position.clone(), ..Default::default() };
            let mut request = Request::new(StreamExecutionReportsRequest {
                account_id: self.account.clone(),
                venue: self.venue.clone(),
                options: Some(options),
                ..Default::default()
            });
            request.set_timeout(STREAM_LIMIT);
            self.stream = Some(self.orders.stream_execution_reports(request).await?.into_inner());
        }
        match &mut self.stream {
            Some(stream) => stream.message().await,
            None => Ok(None),
        }
    }

    /// Takes the message's place in the numbering; false when one before it is missing.
    fn follows(&mut self, message: &StreamExecutionReportsResponse) -> bool {
        if let Some(Body::Acknowledgement(acknowledgement)) = &message.body {
            if acknowledgement.resume_outcome() == ResumeOutcome::Resumed {
                println!("executions: resumed after sequence {}", self.sequence());
            } else if self.position.is_some() {
                // A snapshot follows. What ended in between is not in it: read ListOrders and ListFills.
                println!("executions: not resumed, {}", acknowledgement.resume_note);
                self.position = None;
            }
            return true;
        }
        let Some(header) = message.header.as_ref().filter(|header| header.sequence > 0) else { return true };
        let missing = header.previous_sequence != 0 && header.previous_sequence != self.sequence();
        if self.position.is_some() && missing {
            return false;
        }
        self.position = Some(StreamPosition { epoch: header.epoch.clone(), sequence: header.sequence });
        true
    }
}
