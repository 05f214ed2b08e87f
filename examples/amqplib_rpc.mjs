// A picture by plain amqplib: node amqplib_rpc.mjs URL PROMPT FILE [--direct] [--default-exchange]
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import amqp from "amqplib";

const [url, prompt, file, ...flags] = process.argv.slice(2);
const connection = await amqp.connect(url);
const channel = await connection.createConfirmChannel();
const replyTo = flags.includes("--direct")
  ? "amq.rabbitmq.reply-to"
  : (await channel.assertQueue("", { exclusive: true })).queue;
const correlationId = randomUUID();
const answer = new Promise((resolve) => {
  channel.consume(replyTo, (message) => {
    if (message?.properties.correlationId === correlationId) resolve(message);
  }, { noAck: true });
});
const exchange = flags.includes("--default-exchange") ? "" : "imagegen";
const body = Buffer.from(JSON.stringify({ prompt, width: 512, height: 512 }));
channel.publish(exchange, "imagegen.requests", body,
  { replyTo, correlationId, contentType: "application/json", persistent: true });
await channel.waitForConfirms(); // rejects when the queue is full
const reply = JSON.parse((await answer).content);
if (!reply.success) throw new Error(reply.error.message);
writeFileSync(file, Buffer.from(reply.image_base64, "base64"));
await connection.close();
