// SPDX-License-Identifier: Apache-2.0
// The official SDK's clients through the whole life of a key. sdk.sh runs it. Argument: the directory with info.json.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const dns = require("node:dns");
const fs = require("node:fs");
const path = require("node:path");

// Not every resolver knows that names below localhost are this machine.
const lookup = dns.lookup;
dns.lookup = (host, options, callback) => {
  if (typeof options === "function") return dns.lookup(host, {}, options);
  if (!host.endsWith(".localhost")) return lookup(host, options, callback);
  const found = { address: "127.0.0.1", family: 4 };
  return options.all ? callback(null, [found]) : callback(null, found.address, found.family);
};

const identity = require("@azure/identity");
const { CryptographyClient, KeyClient } = require("@azure/keyvault-keys");

const dir = process.argv[2];
const read = (name) => JSON.parse(fs.readFileSync(path.join(dir, `${name}.json`), "utf8"));
const info = read("info");
const who = Object.fromEntries(["admin", "app1", "user1", "vm"].map((n) => [n, read(n)]));
const T1 = info.tenants.T1;
const authority = { authorityHost: info.authority, disableInstanceDiscovery: true };
const retry = { retryOptions: { maxRetries: 0 } };
const vault = (name, kind = "vault") => `https://${name}.${kind}.localhost:${info.ports.vault}`;
const poll = { intervalInMs: 50 };

const admin = new identity.ClientSecretCredential(T1, who.admin.client_id, "admin-secret", authority);
const app1 = new identity.ClientSecretCredential(T1, who.app1.client_id, "app1-secret", authority);
const keys = (uri, credential, serviceVersion = "7.5") => new KeyClient(uri, credential, { ...retry, serviceVersion });
const crypt = (kid, credential) => new CryptographyClient(kid, credential, retry);

async function all(pages) {
  const out = [];
  for await (const one of pages) out.push(one);
  return out;
}

async function refused(promise, status, code, inner) {
  await assert.rejects(promise, (e) => {
    assert.equal(e.statusCode, status, e.message);
    const error = JSON.parse(e.response.bodyAsText).error;
    assert.equal(error.code, code);
    assert.equal(error.innererror && error.innererror.code, inner);
    return true;
  });
}

const tests = {
  async "create, get, list, versions"() {
    const c = keys(vault("v1"), admin);
    const made = await c.createRsaKey("made", { keySize: 3072, keyOps: ["wrapKey", "unwrapKey"], tags: { a: "b" } });
    assert.equal(made.keyType, "RSA");
    assert.equal(made.key.n.length, 384);
    assert.deepEqual(made.keyOperations, ["wrapKey", "unwrapKey"]);
    assert.equal(made.properties.recoveryLevel, "Recoverable");
    assert.equal(made.properties.recoverableDays, 90);
    assert.equal(made.properties.vaultUrl, vault("v1"));
    const got = await c.getKey("made", { version: made.properties.version });
    assert.equal(got.id, made.id);
    assert.deepEqual(got.properties.tags, { a: "b" });
    for (let i = 0; i < 6; i++) await c.createKey(`many-${i}`, "RSA");
    const names = (await all(c.listPropertiesOfKeys())).map((p) => p.name);
    assert.deepEqual(names, ["k1", "made", ...[0, 1, 2, 3, 4, 5].map((i) => `many-${i}`)]);
    for (let i = 0; i < 4; i++) await c.rotateKey("made");
    const versions = await all(c.listPropertiesOfKeyVersions("made"));
    assert.equal(new Set(versions.map((p) => p.version)).size, 5);
    assert.notEqual((await c.getKey("made")).properties.version, made.properties.version);
    await c.createEcKey("curve", { curve: "P-256" });
  },

  async "wrap and unwrap"() {
    const c = keys(vault("v1"), app1);
    const key = await c.getKey("k1");
    for (const algorithm of ["RSA-OAEP-256", "RSA-OAEP"]) {
      const secret = crypto.randomBytes(32);
      const wrapped = await crypt(key.id, app1).wrapKey(algorithm, secret);
      assert.equal(wrapped.keyID, key.id);
      const back = await crypt(key.id, app1).unwrapKey(algorithm, wrapped.result);
      assert.deepEqual(Buffer.from(back.result), secret);
    }
    // What Node's own OpenSSL wraps for the public key, the vault unwraps.
    const jwk = { kty: "RSA", n: Buffer.from(key.key.n).toString("base64url"),
      e: Buffer.from(key.key.e).toString("base64url") };
    const secret = crypto.randomBytes(32);
    const local = crypto.publicEncrypt({ key: crypto.createPublicKey({ key: jwk, format: "jwk" }),
      padding: crypto.constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" }, secret);
    const back = await crypt(key.id, app1).unwrapKey("RSA-OAEP-256", local);
    assert.deepEqual(Buffer.from(back.result), secret);
  },

  async "Managed HSM: oct-HSM and RSA-HSM"() {
    const c = keys(vault("hsm1", "managedhsm"), admin);
    const key = await c.createOctKey("oct", { keySize: 256, hsm: true });
    assert.equal(key.keyType, "oct-HSM");
    const secret = crypto.randomBytes(32);
    const wrapped = await crypt(key.id, admin).wrapKey("A256KW", secret);
    assert.equal(wrapped.result.length, 40);
    const back = await crypt(key.id, admin).unwrapKey("A256KW", wrapped.result);
    assert.deepEqual(Buffer.from(back.result), secret);
    assert.equal((await c.createRsaKey("rsa", { hsm: true })).keyType, "RSA-HSM");
    assert.equal((await c.getRandomBytes(17)).length, 17);
  },

  async "disable, enable, expire"() {
    const c = keys(vault("v1"), admin);
    const key = await c.createRsaKey("life");
    const wrapped = await crypt(key.id, admin).wrapKey("RSA-OAEP-256", Buffer.from("secret"));
    const off = await c.updateKeyProperties("life", { enabled: false });
    assert.equal(off.properties.enabled, false);
    await refused(crypt(key.id, admin).unwrapKey("RSA-OAEP-256", wrapped.result), 403, "Forbidden", "KeyDisabled");
    assert.equal((await c.getKey("life")).properties.enabled, false);
    await c.updateKeyProperties("life", key.properties.version, { enabled: true });
    const back = await crypt(key.id, admin).unwrapKey("RSA-OAEP-256", wrapped.result);
    assert.equal(Buffer.from(back.result).toString(), "secret");
    const exp = new Date(Math.floor(Date.now() / 1000) * 1000 - 60000);
    const expired = await c.updateKeyProperties("life", { expiresOn: exp });
    assert.deepEqual(expired.properties.expiresOn, exp);
    // The SDK itself refuses with an expired key, so it is not asked by its address.
    await c.updateKeyProperties("life", { expiresOn: new Date(Date.now() + 3600000), keyOps: ["wrapKey"] });
  },

  async "delete, recover"() {
    const c = keys(vault("v1"), admin);
    const key = await c.createRsaKey("gone");
    const deletion = await c.beginDeleteKey("gone", poll);
    const deleted = await deletion.pollUntilDone();
    assert.ok(deleted.properties.scheduledPurgeDate > deleted.properties.deletedOn);
    await refused(c.getKey("gone"), 404, "KeyNotFound", undefined);
    await refused(c.createKey("gone", "RSA"), 409, "Conflict", "ObjectIsDeletedButRecoverable");
    assert.deepEqual((await all(c.listDeletedKeys())).map((k) => k.name), ["gone"]);
    await refused(c.purgeDeletedKey("gone"), 403, "Forbidden", "ForbiddenByPolicy");
    const recovery = await c.beginRecoverDeletedKey("gone", poll);
    await recovery.pollUntilDone();
    assert.equal((await c.getKey("gone")).id, key.id);
  },

  async "delete in the background, purge, backup, restore"() {
    const c = keys(vault("v2"), admin);
    const key = await c.createRsaKey("brief");
    assert.equal(key.properties.recoveryLevel, "Recoverable+Purgeable");
    const backup = await c.backupKey("brief");
    const deletion = await c.beginDeleteKey("brief", poll);
    await refused(c.getDeletedKey("brief"), 404, "KeyNotFound", undefined);
    await refused(c.createKey("brief", "RSA"), 409, "Conflict", "ObjectIsBeingDeleted");
    await deletion.pollUntilDone();
    await c.purgeDeletedKey("brief");
    await refused(c.getDeletedKey("brief"), 404, "KeyNotFound", undefined);
    assert.equal((await c.restoreKeyBackup(backup)).id, key.id);
  },

  async "rotation policy"() {
    const c = keys(vault("v1"), admin);
    const policy = await c.updateKeyRotationPolicy("k1", {
      expiresIn: "P90D", lifetimeActions: [{ action: "Rotate", timeBeforeExpiry: "P30D" }] });
    assert.equal(policy.expiresIn, "P90D");
    assert.equal((await c.getKeyRotationPolicy("k1")).lifetimeActions[0].action, "Rotate");
  },

  async "who may do what"() {
    await refused(keys(vault("v1"), app1).createKey("no", "RSA"), 403, "Forbidden", "ForbiddenByRbac");
    await refused(keys(vault("v2"), app1).getKey("k1"), 403, "Forbidden", "ForbiddenByRbac");
    await refused(keys(vault("v1"), admin, "1.0").getKey("k1"), 400, "BadParameter", undefined);
    for (const version of ["7.4", "7.6", "2025-07-01"]) await keys(vault("v1"), app1, version).getKey("k1");
  },

  async "service principals: secret, certificate, federated token"() {
    const wrong = new identity.ClientSecretCredential(T1, who.app1.client_id, "wrong", authority);
    await assert.rejects(keys(vault("v1"), wrong).getKey("k1"), /AADSTS7000215/);
    const stranger = new identity.ClientSecretCredential(T1, crypto.randomUUID(), "x", authority);
    await assert.rejects(keys(vault("v1"), stranger).getKey("k1"), /AADSTS700016/);
    const certificate = new identity.ClientCertificateCredential(T1, who.app1.client_id,
      path.join(dir, "app1.pem"), authority);
    await keys(vault("v1"), certificate).getKey("k1");
    const workload = new identity.WorkloadIdentityCredential({ ...authority, tenantId: T1,
      clientId: who.app1.client_id, tokenFilePath: path.join(dir, "federated") });
    await keys(vault("v1"), workload).getKey("k1");
  },

  async "managed identities: VM, App Service, Arc"() {
    const get = (credential) => keys(vault("v1"), credential).getKey("k1");
    process.env.AZURE_POD_IDENTITY_AUTHORITY_HOST = `http://127.0.0.1:${info.ports.imds}`;
    await get(new identity.ManagedIdentityCredential());
    await all(keys(vault("v1"),
      new identity.ManagedIdentityCredential({ clientId: who.user1.client_id })).listPropertiesOfKeys());
    await assert.rejects(get(new identity.ManagedIdentityCredential({ clientId: crypto.randomUUID() })));
    Object.assign(process.env, info.app_service);
    await get(new identity.ManagedIdentityCredential());
    delete process.env.IDENTITY_HEADER;
    process.env.IDENTITY_ENDPOINT = `http://127.0.0.1:${info.ports.arc}/metadata/identity/oauth2/token`;
    process.env.IMDS_ENDPOINT = `http://127.0.0.1:${info.ports.arc}`;
    await get(new identity.ManagedIdentityCredential());
  },
};

(async () => {
  let failed = 0;
  for (const [name, run] of Object.entries(tests)) {
    try {
      await run();
      console.log(`ok: ${name}`);
    } catch (e) {
      failed++;
      console.log(`FAIL: ${name}\n${e.stack}`);
    }
  }
  process.exit(failed ? 1 : 0);
})();
