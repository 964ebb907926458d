// Three gateways on Azure Container Apps and the Redis that they share, with an identity of their own. Not compiled here, for there
// was no bicep.
// Give the identity the role "Cognitive Services OpenAI User" on every resource that gateway.toml names.
//
//   az deployment group create -g GROUP -f containerapp.bicep -p image=… environmentId=… config=@gateway.toml adminToken=… …
//
// The ingress ends a request that is silent for 240 s: gateway.toml keeps its timeouts below that.

param location string = resourceGroup().location
param image string
param environmentId string
param config string
@secure()
param adminToken string
@secure()
param teamAKey string
@secure()
param sessionKey string

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'aoai-gateway'
  location: location
}

// Its address goes into [redis] url of gateway.toml: rediss:// and the output redisAddress. Nobody has an access key.
resource redis 'Microsoft.Cache/redisEnterprise@2025-04-01' = {
  name: 'aoai-gateway-${uniqueString(resourceGroup().id)}'
  location: location
  sku: { name: 'Balanced_B0' }
  properties: { minimumTlsVersion: '1.2', highAvailability: 'Enabled' }
}

resource database 'Microsoft.Cache/redisEnterprise/databases@2025-04-01' = {
  parent: redis
  name: 'default'
  properties: {
    clientProtocol: 'Encrypted'
    port: 10000
    accessKeysAuthentication: 'Disabled'
    // The gateway asks one address for everything.
    clusteringPolicy: 'EnterpriseCluster'
    // An account that is evicted would be full again. All keys end by themselves, and a full Redis counts as one that is away.
    evictionPolicy: 'NoEviction'
  }
}

resource access 'Microsoft.Cache/redisEnterprise/databases/accessPolicyAssignments@2025-04-01' = {
  parent: database
  name: 'aoaigateway'
  properties: { accessPolicyName: 'default', user: { objectId: identity.properties.principalId } }
}

resource gateway 'Microsoft.App/containerApps@2024-03-01' = {
  name: 'aoai-gateway'
  location: location
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    environmentId: environmentId
    configuration: {
      activeRevisionsMode: 'Single'
      // The admin listener is not exposed: probes reach it inside.
      ingress: { external: true, targetPort: 8080, transport: 'auto', allowInsecure: false }
      secrets: [
        { name: 'admin-token', value: adminToken }
        { name: 'team-a-key', value: teamAKey }
        { name: 'session-key', value: sessionKey }
        { name: 'config', value: config }
      ]
    }
    template: {
      // shutdown_delay + shutdown_grace + 15 s.
      terminationGracePeriodSeconds: 85
      containers: [
        {
          name: 'gateway'
          image: image
          args: [ '--config', '/etc/aoai-gateway/gateway.toml' ]
          resources: { cpu: json('1.0'), memory: '2Gi' }
          env: [
            // Which of the app's identities managed_identity means.
            { name: 'AZURE_CLIENT_ID', value: identity.properties.clientId }
            { name: 'ADMIN_TOKEN', secretRef: 'admin-token' }
            { name: 'TEAM_A_KEY', secretRef: 'team-a-key' }
            { name: 'SESSION_KEY', secretRef: 'session-key' }
          ]
          probes: [
            { type: 'Liveness', httpGet: { path: '/livez', port: 9090 }, periodSeconds: 10 }
            { type: 'Readiness', httpGet: { path: '/readyz', port: 9090 }, periodSeconds: 2, failureThreshold: 1 }
          ]
          volumeMounts: [ { volumeName: 'config', mountPath: '/etc/aoai-gateway' } ]
        }
      ]
      volumes: [
        { name: 'config', storageType: 'Secret', secrets: [ { secretRef: 'config', path: 'gateway.toml' } ] }
      ]
      scale: {
        minReplicas: 3
        maxReplicas: 10
        rules: [ { name: 'requests', http: { metadata: { concurrentRequests: '200' } } } ]
      }
    }
  }
}

output redisAddress string = '${redis.properties.hostName}:10000'
output address string = gateway.properties.configuration.ingress.fqdn
