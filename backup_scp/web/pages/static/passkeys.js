// Passkeys (Web Authentication).  Without this file, a password and a code do.
"use strict";

(() => {
  const fields = ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"];
  const decoded = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));
  const encoded = (data) => btoa(String.fromCharCode(...new Uint8Array(data))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const named = (known) => (known || []).map((one) => ({ ...one, id: decoded(one.id) }));

  // What the node asks for: bytes are text in JSON.
  function asked(options) {
    const more = { challenge: decoded(options.challenge) };
    if (options.user) more.user = { ...options.user, id: decoded(options.user.id) };
    if (options.allowCredentials) more.allowCredentials = named(options.allowCredentials);
    if (options.excludeCredentials) more.excludeCredentials = named(options.excludeCredentials);
    return { ...options, ...more };
  }

  function answered(credential) {
    const response = {};
    for (const name of fields) if (credential.response[name]) response[name] = encoded(credential.response[name]);
    const id = encoded(credential.rawId);
    return JSON.stringify({ id, rawId: id, type: credential.type, response, clientExtensionResults: {} });
  }

  function setUp(form) {
    const kind = form.dataset.passkey;
    const told = form.querySelector("[data-failed]");
    let waiting = null;  // what the browser offers beside the name

    function tell(text) { told.textContent = text; told.hidden = !text; }
    function send(options, credential) {
      form.elements.answer.value = answered(credential);
      if (kind === "new") {
        form.elements.handle.value = options.user.id;
        form.elements.current.value = "";
        form.elements.current.required = false;
      }
      form.submit();
    }
    async function options() {
      if (form.dataset.asked) return JSON.parse(form.dataset.asked);
      const sent = kind === "new" ? { method: "POST", body: new URLSearchParams(new FormData(form)) } : {};
      const answer = await fetch(form.dataset.options, sent);
      const found = answer.headers.get("content-type") === "application/json" ? await answer.json() : {};
      if (!answer.ok) throw new Error(found.error || "");
      return found;
    }
    async function use(mediation) {
      if (waiting) waiting.abort();
      const control = waiting = new AbortController();
      const wanted = await options();
      const request = { publicKey: asked(wanted), signal: control.signal };
      if (mediation) request.mediation = mediation;
      send(wanted, await (kind === "new" ? navigator.credentials.create(request) : navigator.credentials.get(request)));
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      tell("");
      use().catch((error) => tell(error instanceof DOMException ? told.dataset.failed : error.message || told.dataset.failed));
    });
    form.hidden = false;

    // The browser offers passkeys in the field for the name; what it asks for is renewed before it ends.
    async function offer() {
      if (!waiting || !document.hidden) use("conditional").catch(() => {});
      setTimeout(offer, 240000);
    }
    if (kind === "alone" && PublicKeyCredential.isConditionalMediationAvailable) {
      PublicKeyCredential.isConditionalMediationAvailable().then((can) => { if (can) offer(); });
    }
  }

  if (window.PublicKeyCredential) for (const form of document.querySelectorAll("form[data-passkey]")) setUp(form);
})();
