/** What every client of the mesh needs: a channel, a submit that never guesses, a stream that misses nothing. */

import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import * as grpc from "@grpc/grpc-js";

import { NewOrder, Order, OrderStatus, type ExecutionReport } from "./gen/venuemesh/v1/order.js";
import {
  GetOrderRequest,
  GetOrderResponse,
  OrderServiceClient,
  StreamExecutionReportsRequest,
  StreamExecutionReportsResponse,
  SubmitOrderRequest,
  SubmitOrderResponse,
  SubmitOutcome,
} from "./gen/venuemesh/v1/order_service.js";
import { ResumeOutcome, type StreamPosition } from "./gen/venuemesh/v1/stream.js";
import { ErrorInfo, Status } from "./gen/rich_status.js";

/** An example ends; a real follower sets no deadline. */
export const STREAM_LIMIT_MS = 60_000;
const READ_BACK_ATTEMPTS = 10;
const READ_BACK_PAUSE_MS = 300;
const RECONNECT_ATTEMPTS = 5;
const RECONNECT_PAUSE_MS = 200;

/** Where the mesh is and what to trade. */
export interface Settings {
  router: string;
  aggregator: string;
  caFile: string;
  tokenFile: string;
  account: string;
  venue: string;
  symbol: string;
  quantity: string;
}

/** Reads VENUEMESH_...; defaults are those of the local mesh. */
export function settingsFromEnvironment(): Settings {
  const setting = (name: string, otherwise: string) => process.env[`VENUEMESH_${name}`] ?? otherwise;
  return {
    router: setting("ROUTER", "127.0.0.1:50050"),
    aggregator: setting("AGGREGATOR", "127.0.0.1:50060"),
    caFile: setting("CA_FILE", ""),
    tokenFile: setting("TOKEN_FILE", ""),
    account: setting("ACCOUNT", "main"),
    venue: setting("VENUE", "hyperliquid"),
    symbol: setting("SYMBOL", "BTC/USDC:USDC"),
    quantity: setting("QUANTITY", "0.001"),
  };
}

/** Deadlines and repeats of the contract, for clients of every service. */
export function channelOptions(): grpc.ClientOptions {
  const file = new URL("../../service_config.json", import.meta.url);
  return {
    "grpc.service_config": readFileSync(file, "utf8"),
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 5_000,
  };
}

/** TLS and token where they are set. */
export function credentials(settings: Settings): grpc.ChannelCredentials {
  if (settings.caFile === "") {
    if (settings.tokenFile !== "") {
      throw new Error("VENUEMESH_TOKEN_FILE needs VENUEMESH_CA_FILE: a token goes over TLS only");
    }
    return grpc.credentials.createInsecure();
  }
  const tls = grpc.credentials.createSsl(readFileSync(settings.caFile));
  if (settings.tokenFile === "") return tls;
  const token = readFileSync(settings.tokenFile, "utf8").trim();
  const bearer = grpc.credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${token}`);
    done(null, metadata);
  });
  return grpc.credentials.combineChannelCredentials(tls, bearer);
}

/** A unary call as a promise. */
export function unary<Request, Response>(
  client: grpc.Client,
  method: (request: Request, done: (error: grpc.ServiceError | null, response: Response) => void) => unknown,
  request: Request,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    method.call(client, request, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

export function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}

/** The order may be live. Only the same key may be submitted again. */
export class OutcomeUnknown extends Error {}

/**
 * Sends an order once and says what became of it. An answer that is lost is read back, never replaced by another
 * submit. Any error but OutcomeUnknown means that nothing was sent.
 */
export async function submit(orders: OrderServiceClient, order: NewOrder): Promise<Order> {
  const request = SubmitOrderRequest.fromPartial({ order });
  let answer: SubmitOrderResponse;
  try {
    answer = await unary<SubmitOrderRequest, SubmitOrderResponse>(orders, orders.submitOrder, request);
  } catch (error) {
    if (!isServiceError(error) || provedNotSent(error)) throw error;
    console.log(`submit: ${order.clientOrderId} answer lost, ${grpc.status[error.code]}; reading back`);
    return readBack(orders, order);
  }
  const open = [SubmitOutcome.SUBMIT_OUTCOME_UNKNOWN, SubmitOutcome.SUBMIT_OUTCOME_PENDING];
  if (open.includes(answer.outcome) || answer.order === undefined) {
    console.log(`submit: ${order.clientOrderId} not settled yet; reading back`);
    return readBack(orders, order);
  }
  return answer.order;
}

async function readBack(orders: OrderServiceClient, order: NewOrder): Promise<Order> {
  const request = GetOrderRequest.fromPartial({
    reference: {
      accountId: order.accountId,
      venue: order.venue,
      id: { $case: "clientOrderId", clientOrderId: order.clientOrderId },
    },
  });
  for (let attempt = 0; attempt < READ_BACK_ATTEMPTS; attempt++) {
    try {
      const found = (await unary<GetOrderRequest, GetOrderResponse>(orders, orders.getOrder, request)).order;
      if (found && !found.uncertain && found.status !== OrderStatus.ORDER_STATUS_PENDING_NEW) return found;
    } catch (error) {
      if (!isServiceError(error)) throw error;
      // NOT_FOUND proves nothing: the submit may still be on its way.
      console.log(`submit: ${order.clientOrderId} read back failed, ${grpc.status[error.code]}`);
    }
    await pause(READ_BACK_PAUSE_MS);
  }
  throw new OutcomeUnknown(`${order.clientOrderId} may be live; repeat only this key`);
}

/** Whether the mesh itself says that no order was attempted; anything else counts as unknown. */
function provedNotSent(error: grpc.ServiceError): boolean {
  const raw = error.metadata.get("grpc-status-details-bin")[0];
  if (!(raw instanceof Buffer)) return false;
  for (const detail of Status.decode(raw).details) {
    if (detail.typeUrl !== "type.googleapis.com/google.rpc.ErrorInfo") continue;
    const info = ErrorInfo.decode(detail.value);
    if (info.domain === "venuemesh") return info.metadata["sent"] === "no";
  }
  return false;
}

/** Execution reports of an account at a venue, each once and in order, over any number of connections. */
export class Executions {
  /** Of the last message handled. Written to a file, it resumes after a crash too. */
  position: StreamPosition | undefined;

  private call: grpc.ClientReadableStream<StreamExecutionReportsResponse> | undefined;
  private messages: AsyncIterator<StreamExecutionReportsResponse> | undefined;

  constructor(
    private readonly orders: OrderServiceClient,
    private readonly account: string,
    private readonly venue: string,
  ) {}

  get sequence(): bigint {
    return this.position?.sequence ?? 0n;
  }

  /** Takes the orders that are open now, without reporting them. */
  async start(): Promise<void> {
    while ((await this.next()).body?.$case !== "snapshotEnd");
    console.log(`executions: following from sequence ${this.sequence}`);
  }

  /** Waits for the next report. Fails when the stream is refused or cannot be had again. */
  async nextReport(): Promise<ExecutionReport> {
    for (;;) {
      const { body } = await this.next();
      if (body?.$case === "event" && body.event.payload?.$case === "executionReport") {
        return body.event.payload.executionReport;
      }
    }
  }

  /** Drops the connection; the next report is the one behind what was handled. */
  cut(): void {
    this.drop();
    console.log(`executions: cut at sequence ${this.sequence}`);
  }

  private async next(): Promise<StreamExecutionReportsResponse> {
    let failures = 0;
    for (;;) {
      let why = "the server closed the stream";
      try {
        const result = await this.open().next();
        if (!result.done && result.value.body?.$case !== "closing" && this.follows(result.value)) return result.value;
      } catch (error) {
        failures += 1;
        if (!isServiceError(error) || error.code !== grpc.status.UNAVAILABLE) throw error;
        if (failures > RECONNECT_ATTEMPTS) throw error;
        why = grpc.status[error.code];
      }
      console.log(`executions: lost at sequence ${this.sequence}, ${why}`);
      this.drop();
      await pause(RECONNECT_PAUSE_MS);
    }
  }

  private open(): AsyncIterator<StreamExecutionReportsResponse> {
    if (this.messages === undefined) {
      const request = StreamExecutionReportsRequest.fromPartial({
        accountId: this.account,
        venue: this.venue,
        options: { resumeAfter: this.position },
      });
      this.call = this.orders.streamExecutionReports(request, { deadline: Date.now() + STREAM_LIMIT_MS });
      this.messages = this.call[Symbol.asyncIterator]();
    }
    return this.messages;
  }

  private drop(): void {
    // A cancelled call ends with an error event, which nobody waits for any more.
    this.call?.on("error", () => {});
    this.call?.cancel();
    this.call = undefined;
    this.messages = undefined;
  }

  /** Takes the message's place in the numbering; false when one before it is missing. */
  private follows({ header, body }: StreamExecutionReportsResponse): boolean {
    if (body?.$case === "acknowledgement") {
      if (body.acknowledgement.resumeOutcome === ResumeOutcome.RESUME_OUTCOME_RESUMED) {
        console.log(`executions: resumed after sequence ${this.sequence}`);
      } else if (this.position !== undefined) {
        // A snapshot follows. What ended in between is not in it: read ListOrders and ListFills.
        console.log(`executions: not resumed, ${body.acknowledgement.resumeNote}`);
        this.position = undefined;
      }
    } else if (header !== undefined && header.sequence !== 0n) {
      const { epoch, sequence, previousSequence } = header;
      if (this.position !== undefined && previousSequence !== 0n && previousSequence !== this.sequence) return false;
      this.position = { epoch, sequence };
    }
    return true;
  }
}
