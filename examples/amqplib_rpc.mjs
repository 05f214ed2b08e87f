// A picture by plain amqplib: node amqplib_rpc.mjs URL PROMPT FILE [--direct] [--default-exchange]
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import amqp from "amqplib";

const PATIENCE_MS = 1000 * (process.env.PATIENCE_S ?? 120); // then it is answered deadline_exceeded
const GRACE_MS = 5000; // for that answer: where no service runs, none comes

const [url, prompt, file, ...flags] = process.argv.slice(2);

async function ask(connection, failed) {
  const channel = await connection.createConfirmChannel();
  channel.on("error", failed);
  channel.on("return", () => failed(new Error("unroutable: no queue takes requests here")));
  const replyTo = flags.includes("--direct")
    ? "amq.rabbitmq.reply-to"
    : (await channel.assertQueue("", { exclusive: true })).queue;
  const correlationId = randomUUID();
  const answer = new Promise((resolve) => {
    channel.consume(replyTo, (message) => {
      if (message?.properties.correlationId === correlationId) resolve(JSON.parse(message.content));
    }, { noAck: true });
  });
  channel.publish(
    flags.includes("--default-exchange") ? "" : "imagegen", "imagegen.requests",
    Buffer.from(JSON.stringify({ prompt, width: 512, height: 512 })),
    {
      replyTo, correlationId, mandatory: true, persistent: true,
      messageId: randomUUID(), // the job's id: sent again under it, nothing is drawn twice
      contentType: "application/json", expiration: PATIENCE_MS,
    },
    (refused) => refused && failed(new Error("busy: the queue is full; try again later")),
  );
  return answer;
}

try {
  const connection = await amqp.connect(url);
  const reply = await new Promise((resolve, failed) => {
    connection.on("error", failed);
    connection.on("close", () => failed(new Error("lost: the broker has closed the connection")));
    setTimeout(
      () => failed(new Error("no answer: nobody draws; try again later")), PATIENCE_MS + GRACE_MS,
    ).unref();
    ask(connection, failed).then(resolve, failed);
  });
  if (!reply.success) throw new Error(`${reply.error.code}: ${reply.error.message}`);
  writeFileSync(file, Buffer.from(reply.image_base64, "base64"));
  await connection.close();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
