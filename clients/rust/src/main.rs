//! A client of the mesh from end to end: submit, follow over a cut, cancel all, watch the portfolio, route.
//!
//! Needs a running mesh and no other part of this repository; settings are in docs/clients.md.

mod mesh;
mod policy;

/// Generated from the contract.
#[allow(clippy::all, dead_code)]
mod v1 {
    tonic::include_proto!("venuemesh.v1");
}

use std::{
    error::Error,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use tonic::Request;

use mesh::{Executions, Orders, STREAM_LIMIT, Settings, Transport, connect, submit};
use policy::Policies;
use v1::{
    CancelAllOrdersRequest, Environment, GetOrderBookRequest, GetVenueRequest, NewOrder, Order, OrderStatus, OrderType,
    PlanRouteRequest, Side, StreamPortfolioRequest, TimeInForce, event::Payload,
    market_data_service_client::MarketDataServiceClient, order_service_client::OrderServiceClient,
    portfolio_service_client::PortfolioServiceClient, routing_service_client::RoutingServiceClient,
    stream_portfolio_response::Body, venue_service_client::VenueServiceClient,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Example {
    settings: Settings,
    policies: Policies,
    router: Transport,
    aggregator: Transport,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Outcome<()> {
    let settings = Settings::from_environment();
    let router = connect(&settings.router, &settings).await?;
    let aggregator = connect(&settings.aggregator, &settings).await?;
    let example = Example { settings, policies: Policies::read()?, router, aggregator };
    let key = format!("rs-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis());
    example.refuse_real_money().await?;
    example.rest_and_cancel(&format!("{key}-rest")).await?;
    example.watch_a_routed_order(&format!("{key}-route")).await?;
    println!("done");
    Ok(())
}

impl Example {
    fn orders(&self) -> Orders {
        OrderServiceClient::new(self.router.clone())
    }

    /// An example must not trade where it costs something.
    async fn refuse_real_money(&self) -> Outcome<()> {
        let request = GetVenueRequest { venue: self.settings.venue.clone() };
        let answer = self
            .policies
            .call("VenueService/GetVenue", request, |one| {
                let mut venues = VenueServiceClient::new(self.router.clone());
                async move { venues.get_venue(one).await }
            })
            .await?;
        let venue = answer.venue.unwrap_or_default();
        let environment = venue.environment();
        println!("venue: {} is {}", venue.venue, environment.as_str_name().trim_start_matches("ENVIRONMENT_"));
        if !matches!(environment, Environment::Simulator | Environment::Testnet) {
            return Err(format!("{} is not a simulator or test network", venue.venue).into());
        }
        Ok(())
    }

    /// Submits an order that rests, and cancels it while nobody listens; the stream tells it all the same.
    async fn rest_and_cancel(&self, key: &str) -> Outcome<()> {
        let mut executions = Executions::follow(self.orders(), &self.settings.account, &self.settings.venue).await?;
        let resting = NewOrder {
            venue: self.settings.venue.clone(),
            order_type: OrderType::Limit.into(),
            time_in_force: TimeInForce::Gtc.into(),
            price: Some(self.far_from_market().await?),
            ..self.buy(key)
        };
        let order = submit(&self.orders(), &self.policies, resting).await?;
        println!("submit: {key} is {}", status(&order));
        if !order.working {
            return Err(format!("{key} does not rest: {:?}", order.reject).into());
        }
        see(&mut executions, key, |one| one.working).await?;

        executions.cut();
        self.cancel_all().await?;
        see(&mut executions, key, |one| one.terminal).await?;
        executions.cut();
        Ok(())
    }

    /// What all orders here have in common.
    fn buy(&self, key: &str) -> NewOrder {
        NewOrder {
            account_id: self.settings.account.clone(),
            client_order_id: key.to_owned(),
            symbol: self.settings.symbol.clone(),
            side: Side::Buy.into(),
            quantity: self.settings.quantity.clone(),
            ..Default::default()
        }
    }

    /// A price a fifth below the best bid, as a whole number: those are on every venue's tick.
    async fn far_from_market(&self) -> Outcome<String> {
        let request = GetOrderBookRequest {
            venue: self.settings.venue.clone(),
            symbol: self.settings.symbol.clone(),
            depth: 1,
            ..Default::default()
        };
        let answer = self
            .policies
            .call("MarketDataService/GetOrderBook", request, |one| {
                let mut market = MarketDataServiceClient::new(self.router.clone());
                async move { market.get_order_book(one).await }
            })
            .await?;
        let book = answer.order_book.unwrap_or_default();
        let bid = book.bids.first().ok_or("the book has no bid")?;
        let whole: u64 = bid.price.split('.').next().unwrap_or_default().parse()?;
        Ok((whole * 4 / 5).to_string())
    }

    /// Cancels everything of the account everywhere; what could not be reached is named and stays.
    async fn cancel_all(&self) -> Outcome<()> {
        let request = CancelAllOrdersRequest { account_id: self.settings.account.clone(), ..Default::default() };
        let answer = self
            .policies
            .call("OrderService/CancelAllOrders", request, |one| {
                let mut orders = self.orders();
                async move { orders.cancel_all_orders(one).await }
            })
            .await?;
        println!("cancel all: {} orders, {} venues not reached", answer.results.len(), answer.unreached.len());
        if !answer.unreached.is_empty() {
            return Err(format!("not reached: {}", answer.unreached.join(", ")).into());
        }
        Ok(())
    }

    /// Lets the router choose the venue and sees the fill arrive in the portfolio.
    async fn watch_a_routed_order(&self, key: &str) -> Outcome<()> {
        let mut portfolio = PortfolioServiceClient::new(self.aggregator.clone());
        let mut request = Request::new(StreamPortfolioRequest::default());
        request.set_timeout(STREAM_LIMIT);
        let mut changes = portfolio.stream_portfolio(request).await?.into_inner();
        while let Some(message) = changes.message().await? {
            let sequence = message.header.map_or(0, |header| header.sequence);
            match message.body {
                Some(Body::Snapshot(snapshot)) => {
                    println!("portfolio: snapshot of {} accounts at sequence {sequence}", snapshot.accounts.len());
                    self.place_routed(key).await?;
                }
                Some(Body::Delta(delta)) => {
                    let Some(Payload::ExecutionReport(report)) = delta.event.and_then(|event| event.payload) else {
                        continue;
                    };
                    if let Some(fill) = report.fill.filter(|fill| fill.client_order_id == key) {
                        println!("portfolio: fill of {} at sequence {sequence}", fill.quantity);
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        Err("the portfolio stream ended before the fill".into())
    }

    /// A market order that names no venue: the router chooses, and the rules of a submit are the same.
    async fn place_routed(&self, key: &str) -> Outcome<()> {
        let order =
            NewOrder { order_type: OrderType::Market.into(), time_in_force: TimeInForce::Ioc.into(), ..self.buy(key) };
        let request = PlanRouteRequest { order: Some(order.clone()), instruction: None };
        let answer = self
            .policies
            .call("RoutingService/PlanRoute", request, |one| {
                let mut routing = RoutingServiceClient::new(self.router.clone());
                async move { routing.plan_route(one).await }
            })
            .await?;
        let plan = answer.plan.unwrap_or_default();
        let leg = plan.legs.first().ok_or("the plan has no leg")?;
        println!("route: {} is the best of {} venues now", leg.venue, plan.candidates.len());
        let placed = submit(&self.orders(), &self.policies, order).await?;
        let venue = placed.terms.as_ref().map_or("", |terms| terms.venue.as_str());
        println!("submit: {key} is {} at {venue}", status(&placed));
        if placed.status() == OrderStatus::Rejected {
            return Err(format!("{key}: {:?}", placed.reject).into());
        }
        Ok(())
    }
}

/// Follows the stream until it tells this of the order.
async fn see(executions: &mut Executions, key: &str, wanted: fn(&Order) -> bool) -> Outcome<()> {
    loop {
        let report = executions.next_report().await?;
        let Some(order) = report.order else { continue };
        let same = order.terms.as_ref().is_some_and(|terms| terms.client_order_id == key);
        if same && wanted(&order) {
            println!("executions: {key} is {} at sequence {}", status(&order), executions.sequence());
            return Ok(());
        }
    }
}

/// `NEW`, or the number of a status that is newer than these stubs.
fn status(order: &Order) -> String {
    match OrderStatus::try_from(order.status) {
        Ok(known) => known.as_str_name().trim_start_matches("ORDER_STATUS_").to_owned(),
        Err(_) => order.status.to_string(),
    }
}
