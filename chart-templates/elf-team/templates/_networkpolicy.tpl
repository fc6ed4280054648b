{{/*
Nothing but what the values name: teams come from the edges, everything else from the rules. A NetworkPolicy knows
addresses and pods, and the ports behind a Service; what it would need names for is in the CiliumNetworkPolicy.
*/}}
{{- define "elf-team.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.name" .)) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "elf-team.selectorLabels" . | nindent 6 }}
  policyTypes:
    - Ingress
    - Egress
  {{- $around := include "elf-team.ingressRules" . | trim }}
  {{- if or .Values.edges.callers .Values.networkPolicy.ingress.clients $around }}
  ingress:
    {{- if .Values.edges.callers }}
    - from:
        {{- range .Values.edges.callers }}
        {{- include "elf-team.policyPods" (dict "namespace" .namespace "labels" (dict "app" .team)) | nindent 8 }}
        {{- end }}
      ports:
        - port: http
          protocol: TCP
    {{- end }}
    {{- range .Values.networkPolicy.ingress.clients }}
    - from:
        {{- include "elf-team.policyPods" . | nindent 8 }}
      ports:
        - port: http
          protocol: TCP
        {{- if int $.Values.ports.grpc }}
        - port: grpc
          protocol: TCP
        {{- end }}
    {{- end }}
    {{- with $around }}
    {{- . | nindent 4 }}
    {{- end }}
  {{- else }}
  ingress: []
  {{- end }}
  egress:
    {{- include "elf-team.policyRule" .Values.networkPolicy.egress.dns | nindent 4 }}
    {{- if .Values.edges.callees }}
    - to:
        {{- range .Values.edges.callees }}
        {{- include "elf-team.policyPods" (dict "namespace" .namespace "labels" (dict "app" .team)) | nindent 8 }}
        {{- end }}
      ports:
        - port: 8000
          protocol: TCP
    {{- end }}
    {{- range .Values.networkPolicy.egress.rules }}
    {{- include "elf-team.policyRule" . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Pods of a namespace, by their labels; without labels all of them. */}}
{{- define "elf-team.policyPods" -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ .namespace | quote }}
  {{- if .labels }}
  podSelector:
    matchLabels:
      {{- range $key, $value := .labels }}
      {{ $key | quote }}: {{ $value | quote }}
      {{- end }}
  {{- end }}
{{- end -}}

{{/* One way out. An empty rule would be every way out, which the schema leaves to nobody: there are ports or places. */}}
{{- define "elf-team.policyRule" -}}
{{- if or .pods .networks }}
- to:
    {{- range .pods }}
    {{- include "elf-team.policyPods" . | nindent 4 }}
    {{- end }}
    {{- range .networks }}
    - ipBlock:
        cidr: {{ .cidr | quote }}
        {{- with index . "except" }}
        except:
          {{- range . }}
          - {{ . | quote }}
          {{- end }}
        {{- end }}
    {{- end }}
  {{- with .ports }}
  ports:
    {{- include "elf-team.policyPorts" . | nindent 4 }}
  {{- end }}
{{- else }}
- ports:
    {{- include "elf-team.policyPorts" .ports | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "elf-team.policyPorts" -}}
{{- range . }}
- port: {{ .port | int }}
  protocol: {{ .protocol }}
{{- end }}
{{- end -}}

{{/* What the process is told of an HTTP proxy. */}}
{{- define "elf-team.proxyData" -}}
{{- with .Values.networkPolicy.egress.proxy }}
{{- if .url }}
HTTPS_PROXY: {{ .url | quote }}
HTTP_PROXY: {{ .url | quote }}
{{- end }}
{{- if .noProxy }}
NO_PROXY: {{ .noProxy | quote }}
{{- end }}
{{- end }}
{{- end -}}
