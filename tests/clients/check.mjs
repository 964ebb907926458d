// Runs named checks, prints a line for each that fails, and ends with their number.
export const URL = process.env.GATEWAY_URL, KEY = process.env.GATEWAY_KEY, VERSION = "2025-04-01-preview";
export function equal(found, expected) {
  if (JSON.stringify(found) !== JSON.stringify(expected)) throw new Error(`${JSON.stringify(found)} instead of ${JSON.stringify(expected)}`);
}
export function hello(text) {
  if (!/^Hello from (east|west)/.test(text)) throw new Error(`unexpected text: ${JSON.stringify(text)}`);
}
export async function run(name, checks) {
  let failed = 0;
  for (const [what, check] of Object.entries(checks)) {
    try { await check(); } catch (error) { failed++; console.log(`  ${name}: ${what}: ${String(error).slice(0, 300)}`); }
  }
  const all = Object.keys(checks).length;
  console.log(`${name}: ${all - failed} of ${all}`);
  process.exit(failed ? 1 : 0);
}
