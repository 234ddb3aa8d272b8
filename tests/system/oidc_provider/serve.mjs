// A provider of OpenID Connect with the pages that oidc-provider brings: node serve.mjs FOLDER SETTINGS.
// Its sessions and codes are in memory, and end with the process.  It reads the accounts again at each login.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, file] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${folder}/node_modules/oidc-provider/lib/index.js`));
const settings = JSON.parse(readFileSync(file));

const provider = new Provider(settings.issuer, {
  clients: [settings.client],
  jwks: { keys: settings.keys },
  cookies: { keys: [settings.cookie_key] },
  pkce: { required: () => true },
  scopes: ["openid", "profile", "email"],
  claims: {
    openid: ["sub"],
    profile: ["name", "preferred_username", "groups"],
    email: ["email", "email_verified"],
  },
  features: { rpInitiatedLogout: { enabled: true }, backchannelLogout: { enabled: true } },
  // Its own way to fetch goes to no computer of the local network, such as a node.
  fetch: (address, { dispatcher, ...options }) => fetch(address, options),
  findAccount(_, name) {
    const account = JSON.parse(readFileSync(settings.accounts))[name];
    return account && { accountId: name, claims: () => account };
  },
});

for (const event of ["server_error", "backchannel.error"]) {
  provider.on(event, (_, error) => console.error(event, error));
}
provider.listen(settings.port, settings.host);
