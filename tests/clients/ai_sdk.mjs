// The AI SDK with @ai-sdk/openai-compatible: text, streams, tools, objects.
import assert from 'node:assert/strict';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { Output, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from 'ai';
import { z } from 'zod';

const HELLO = 'Hello from the script: two and two are four.';
const CASE_SECONDS = 60;

const options = { name: 'sanctum', baseURL: `${process.env.SANCTUM_URL}/v1`, apiKey: 'dummy', includeUsage: true };
const sanctum = createOpenAICompatible(options);
const structured = createOpenAICompatible({ ...options, supportsStructuredOutputs: true });
const scripted = sanctum('scripted');
const tiny = sanctum('sanctum-tiny');

const City = z.object({ name: z.string(), country: z.string(), population: z.number().int() });
const rome = { name: 'Rome', country: 'Italy', population: 2873000 };

function weather(seen) {
  return tool({
    description: 'The weather of a city.',
    inputSchema: z.object({ city: z.string(), days: z.number().int() }),
    execute: async (input) => {
      seen.push(input);
      return 'sunny';
    },
  });
}

const cases = {
  async generateText_returns_text_and_usage() {
    const result = await generateText({ model: scripted, system: 'Be brief.', prompt: '[hello]' });
    assert.equal(result.text, HELLO);
    assert.equal(result.finishReason, 'stop');
    assert.ok(result.usage.outputTokens > 0, 'there is no usage');
  },

  async generateText_with_the_built_in_model() {
    const result = await generateText({ model: tiny, prompt: 'What is 23 minus 61?', temperature: 0 });
    assert.equal(result.text, '23 - 61 = -38');
  },

  async generateText_returns_reasoning() {
    const providerOptions = { sanctum: { reasoningEffort: 'high' } };
    const result = await generateText({ model: scripted, prompt: '[reason]', providerOptions });
    assert.equal(result.reasoningText, 'The user asks for a proof that I think.');
    assert.equal(result.text, 'Reasoned answer: forty-two, naturally.');
  },

  async generateText_runs_a_tool() {
    const seen = [];
    const result = await generateText({ model: scripted, prompt: '[weather]', tools: { get_weather: weather(seen) }, stopWhen: stepCountIs(3) });
    assert.deepEqual(seen, [{ city: 'Rome', days: 3 }]);
    assert.equal(result.text, 'Sunny skies over Rome: pack light.');
  },

  async generateText_with_a_required_tool() {
    const tools = { get_weather: weather([]) };
    for (const toolChoice of ['required', { type: 'tool', toolName: 'get_weather' }]) {
      const result = await generateText({ model: scripted, prompt: '[weather]', tools, toolChoice });
      assert.deepEqual(result.toolCalls.map((call) => call.input), [{ city: 'Rome', days: 3 }]);
    }
  },

  async generateText_with_an_output_schema() {
    const result = await generateText({ model: structured('scripted'), prompt: '[city]', output: Output.object({ schema: City }) });
    assert.deepEqual(result.output, rome);
  },

  async streamText_yields_text() {
    const result = streamText({ model: scripted, prompt: '[long]' });
    const pieces = [];
    for await (const piece of result.textStream) pieces.push(piece);
    assert.ok(pieces.length > 10, 'the text came in few pieces');
    assert.ok(pieces.join('').endsWith('59 sheep, and sleep.'), 'the streamed text is not whole');
    assert.ok((await result.usage).outputTokens > 10, 'there is no usage');
  },

  async streamText_runs_a_tool() {
    const seen = [];
    const result = streamText({ model: scripted, prompt: '[weather]', tools: { get_weather: weather(seen) }, stopWhen: stepCountIs(3) });
    let text = '';
    for await (const part of result.fullStream) {
      if (part.type === 'error') throw part.error;
      if (part.type === 'text-delta') text += part.text;
    }
    assert.deepEqual(seen, [{ city: 'Rome', days: 3 }]);
    assert.equal(text, 'Sunny skies over Rome: pack light.');
  },

  async generateObject_by_json_schema() {
    const result = await generateObject({ model: structured('scripted'), prompt: '[city]', schema: City });
    assert.deepEqual(result.object, rome);
  },

  async generateObject_by_json_object() {
    const result = await generateObject({ model: scripted, prompt: '[city]', schema: City });
    assert.deepEqual(result.object, rome);
  },

  async generateObject_forces_the_built_in_model() {
    const schema = z.object({ certain: z.boolean() });
    const result = await generateObject({ model: structured('sanctum-tiny'), prompt: 'What is 7 times 8?', schema });
    assert.equal(typeof result.object.certain, 'boolean');
  },

  async streamObject_yields_the_object() {
    let failure;
    const onError = ({ error }) => {
      failure = error;
    };
    const result = streamObject({ model: structured('scripted'), prompt: '[city]', schema: City, onError });
    let last;
    for await (const partial of result.partialObjectStream) last = partial;
    if (failure) throw failure;
    assert.deepEqual(last, rome);
    assert.deepEqual(await result.object, rome);
  },
};

function limited(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${CASE_SECONDS} s`)), CASE_SECONDS * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A failed stream rejects promises that a case may not have asked for yet; the case fails by what it does ask for.
process.on('unhandledRejection', () => {});

const chosen = process.argv.slice(2);
let failed = 0;
for (const [name, run] of Object.entries(cases)) {
  if (chosen.length && !chosen.includes(name)) continue;
  try {
    await limited(run());
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    const body = error.responseBody ?? error.cause?.responseBody ?? error.lastError?.responseBody;
    const text = [error.name, error.message, body].filter(Boolean).join(': ').split(/\s+/).join(' ').slice(0, 600);
    console.log(`failed ${name}: ${text}`);
  }
}
process.exit(failed ? 1 : 0);
