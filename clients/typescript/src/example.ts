/**
 * A client of the mesh from end to end: submit, follow over a cut, cancel all, watch the portfolio, route.
 *
 * Needs a running mesh and no other part of this repository; settings are in docs/clients.md.
 */

import { GetOrderBookRequest, GetOrderBookResponse, MarketDataServiceClient } from "./gen/venuemesh/v1/market_data_service.js";
import { NewOrder, Order, OrderStatus, OrderType, Side, TimeInForce, orderStatusToJSON } from "./gen/venuemesh/v1/order.js";
import { CancelAllOrdersRequest, CancelAllOrdersResponse, OrderServiceClient } from "./gen/venuemesh/v1/order_service.js";
import { PortfolioServiceClient, StreamPortfolioResponse } from "./gen/venuemesh/v1/portfolio_service.js";
import { PlanRouteRequest, PlanRouteResponse, RoutingServiceClient } from "./gen/venuemesh/v1/routing_service.js";
import { Environment, environmentToJSON } from "./gen/venuemesh/v1/venue.js";
import { GetVenueRequest, GetVenueResponse, VenueServiceClient } from "./gen/venuemesh/v1/venue_service.js";
import {
  Executions,
  STREAM_LIMIT_MS,
  channelOptions,
  credentials,
  isServiceError,
  settingsFromEnvironment,
  submit,
  unary,
  type Settings,
} from "./mesh.js";

/** The clients of all services; those of one address share a connection. */
class Mesh {
  readonly venues: VenueServiceClient;
  readonly market: MarketDataServiceClient;
  readonly orders: OrderServiceClient;
  readonly routing: RoutingServiceClient;
  readonly portfolio: PortfolioServiceClient;

  constructor(readonly settings: Settings) {
    const given = [credentials(settings), channelOptions()] as const;
    this.venues = new VenueServiceClient(settings.router, ...given);
    this.market = new MarketDataServiceClient(settings.router, ...given);
    this.orders = new OrderServiceClient(settings.router, ...given);
    this.routing = new RoutingServiceClient(settings.router, ...given);
    this.portfolio = new PortfolioServiceClient(settings.aggregator, ...given);
  }

  close(): void {
    for (const client of [this.venues, this.market, this.orders, this.routing, this.portfolio]) client.close();
  }
}

async function run(mesh: Mesh): Promise<void> {
  const key = `ts-${Date.now()}`;
  await refuseRealMoney(mesh);
  await restAndCancel(mesh, `${key}-rest`);
  await watchARoutedOrder(mesh, `${key}-route`);
  console.log("done");
}

/** An example must not trade where it costs something. */
async function refuseRealMoney({ settings, venues }: Mesh): Promise<void> {
  const request = GetVenueRequest.fromPartial({ venue: settings.venue });
  const { venue } = await unary<GetVenueRequest, GetVenueResponse>(venues, venues.getVenue, request);
  const environment = venue?.environment ?? Environment.ENVIRONMENT_UNSPECIFIED;
  console.log(`venue: ${settings.venue} is ${environmentToJSON(environment).replace("ENVIRONMENT_", "")}`);
  const allowed = [Environment.ENVIRONMENT_SIMULATOR, Environment.ENVIRONMENT_TESTNET];
  require(allowed.includes(environment), `${settings.venue} is not a simulator or test network`);
}

/** Submits an order that rests, and cancels it while nobody listens; the stream tells it all the same. */
async function restAndCancel(mesh: Mesh, key: string): Promise<void> {
  const { settings, orders } = mesh;
  const executions = new Executions(orders, settings.account, settings.venue);
  await executions.start();
  const resting = NewOrder.fromPartial({
    ...buy(settings, key),
    venue: settings.venue,
    orderType: OrderType.ORDER_TYPE_LIMIT,
    timeInForce: TimeInForce.TIME_IN_FORCE_GTC,
    price: await farFromMarket(mesh),
  });
  const order = await submit(orders, resting);
  console.log(`submit: ${key} is ${status(order)}`);
  require(order.working, `${key} does not rest: ${order.reject?.message}`);
  await see(executions, key, (one) => one.working);

  executions.cut();
  await cancelAll(mesh);
  await see(executions, key, (one) => one.terminal);
  executions.cut();
}

/** What all orders here have in common. */
function buy(settings: Settings, key: string): Partial<NewOrder> {
  return {
    accountId: settings.account,
    clientOrderId: key,
    symbol: settings.symbol,
    side: Side.SIDE_BUY,
    quantity: settings.quantity,
  };
}

/** A price a fifth below the best bid, as a whole number: those are on every venue's tick. */
async function farFromMarket({ settings, market }: Mesh): Promise<string> {
  const request = GetOrderBookRequest.fromPartial({ venue: settings.venue, symbol: settings.symbol, depth: 1 });
  const answer = await unary<GetOrderBookRequest, GetOrderBookResponse>(market, market.getOrderBook, request);
  const bid = answer.orderBook?.bids[0]?.price.split(".")[0];
  if (bid === undefined) throw new Error(`the book of ${settings.symbol} has no bid`);
  return ((BigInt(bid) * 4n) / 5n).toString();
}

/** Follows the stream until it tells this of the order. */
async function see(executions: Executions, key: string, wanted: (order: Order) => boolean): Promise<void> {
  for (;;) {
    const { order } = await executions.nextReport();
    if (order?.terms?.clientOrderId === key && wanted(order)) {
      console.log(`executions: ${key} is ${status(order)} at sequence ${executions.sequence}`);
      return;
    }
  }
}

/** Cancels everything of the account everywhere; what could not be reached is named and stays. */
async function cancelAll({ settings, orders }: Mesh): Promise<void> {
  const request = CancelAllOrdersRequest.fromPartial({ accountId: settings.account });
  const answer = await unary<CancelAllOrdersRequest, CancelAllOrdersResponse>(orders, orders.cancelAllOrders, request);
  console.log(`cancel all: ${answer.results.length} orders, ${answer.unreached.length} venues not reached`);
  require(answer.unreached.length === 0, `not reached: ${answer.unreached.join(", ")}`);
}

/** Lets the router choose the venue and sees the fill arrive in the portfolio. */
async function watchARoutedOrder(mesh: Mesh, key: string): Promise<void> {
  const changes = mesh.portfolio.streamPortfolio({}, { deadline: Date.now() + STREAM_LIMIT_MS });
  // A cancelled call ends with an error event, which nobody waits for any more.
  changes.on("error", () => {});
  for await (const { header, body } of changes as AsyncIterable<StreamPortfolioResponse>) {
    if (body?.$case === "snapshot") {
      const accounts = body.snapshot.accounts.length;
      console.log(`portfolio: snapshot of ${accounts} accounts at sequence ${header?.sequence}`);
      await placeRouted(mesh, key);
    } else if (body?.$case === "delta" && body.delta.event?.payload?.$case === "executionReport") {
      const { fill } = body.delta.event.payload.executionReport;
      if (fill?.clientOrderId === key) {
        console.log(`portfolio: fill of ${fill.quantity} at sequence ${header?.sequence}`);
        changes.cancel();
        return;
      }
    }
  }
  throw new Error("the portfolio stream ended before the fill");
}

/** A market order that names no venue: the router chooses, and the rules of a submit are the same. */
async function placeRouted({ settings, routing, orders }: Mesh, key: string): Promise<void> {
  const order = NewOrder.fromPartial({
    ...buy(settings, key),
    orderType: OrderType.ORDER_TYPE_MARKET,
    timeInForce: TimeInForce.TIME_IN_FORCE_IOC,
  });
  const request = PlanRouteRequest.fromPartial({ order });
  const { plan } = await unary<PlanRouteRequest, PlanRouteResponse>(routing, routing.planRoute, request);
  console.log(`route: ${plan?.legs[0]?.venue} is the best of ${plan?.candidates.length} venues now`);
  const placed = await submit(orders, order);
  console.log(`submit: ${key} is ${status(placed)} at ${placed.terms?.venue}`);
  require(placed.status !== OrderStatus.ORDER_STATUS_REJECTED, `${key}: ${placed.reject?.message}`);
}

/** `NEW`, or the number of a status that is newer than these stubs. */
function status(order: Order): string {
  if (!(order.status in OrderStatus)) return String(order.status);
  return orderStatusToJSON(order.status).replace("ORDER_STATUS_", "");
}

function require(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}

let mesh: Mesh | undefined;
try {
  mesh = new Mesh(settingsFromEnvironment());
  await run(mesh);
} catch (error) {
  console.error(`failed: ${isServiceError(error) ? error.details : (error as Error).message}`);
  process.exitCode = 1;
} finally {
  mesh?.close();
}
