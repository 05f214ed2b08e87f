// A picture by plain amqplib: node amqplib_rpc.mjs URL PROMPT FILE [--direct] [--default-exchange]
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import amqp from "amqplib";

const PATIENCE_MS = 120_000; // after it the service answers deadline_exceeded

const [url, prompt, file, ...flags] = process.argv.slice(2);
const connection = await amqp.connect(url);
try {
  const channel = await connection.createConfirmChannel();
  const replyTo = flags.includes("--direct")
    ? "amq.rabbitmq.reply-to"
    : (await channel.assertQueue("", { exclusive: true })).queue;
  const correlationId = randomUUID();
  const answer = new Promise((resolve) => {
    channel.consume(replyTo, (message) => {
      if (message?.properties.correlationId === correlationId) resolve(JSON.parse(message.content));
    }, { noAck: true });
  });
  await new Promise((resolve, reject) => {
    channel.on("return", () => reject(new Error("unroutable: no queue takes requests here")));
    channel.publish(
      flags.includes("--default-exchange") ? "" : "imagegen", "imagegen.requests",
      Buffer.from(JSON.stringify({ prompt, width: 512, height: 512 })),
      {
        replyTo, correlationId, mandatory: true, persistent: true,
        messageId: randomUUID(), // the job's id: sent again under it, nothing is drawn twice
        contentType: "application/json", expiration: PATIENCE_MS,
      },
      (refused) => (refused ? reject(new Error("busy: the queue is full; try again later")) : resolve()),
    );
  });
  const reply = await answer;
  if (!reply.success) throw new Error(`${reply.error.code}: ${reply.error.message}`);
  writeFileSync(file, Buffer.from(reply.image_base64, "base64"));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await connection.close();
}
