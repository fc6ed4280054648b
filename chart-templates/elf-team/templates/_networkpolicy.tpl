{{/*
Nothing but what the organisation's edges, and the egress mode, allow. A NetworkPolicy knows no names: `hosts` of the
values are for modes that have a proxy or a policy engine to read them.
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
  {{- with .Values.networkPolicy }}
  {{- if or .ingress.teams .ingress.gateways $around }}
  ingress:
    {{- if or .ingress.teams .ingress.gateways }}
    - from:
        {{- range .ingress.teams }}
        {{- include "elf-team.policyPeer" . | nindent 8 }}
        {{- end }}
        {{- range .ingress.gateways }}
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ .namespace | quote }}
          podSelector:
            matchLabels:
              {{- range $key, $value := .labels }}
              {{ $key | quote }}: {{ $value | quote }}
              {{- end }}
        {{- end }}
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
    {{- include "elf-team.egressDns" . | nindent 4 }}
    {{- if .egress.teams }}
    - to:
        {{- range .egress.teams }}
        {{- include "elf-team.policyPeer" . | nindent 8 }}
        {{- end }}
      ports:
        - port: 8000
          protocol: TCP
    {{- end }}
    {{- if .egress.store.enabled }}
    {{- include "elf-team.egressStore" .egress.store | nindent 4 }}
    {{- end }}
    {{- if eq .egress.mode "open" }}
    {{- include "elf-team.egressOpen" . | nindent 4 }}
    {{- else if and (eq .egress.mode "cidr") .egress.cidrs }}
    - to:
        {{- range .egress.cidrs }}
        - ipBlock:
            cidr: {{ . | quote }}
        {{- end }}
    {{- else if and (eq .egress.mode "proxy") (or .egress.proxy.namespace .egress.proxy.cidr) }}
    - to:
        {{- with .egress.proxy.namespace }}
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ . | quote }}
        {{- end }}
        {{- with .egress.proxy.cidr }}
        - ipBlock:
            cidr: {{ . | quote }}
        {{- end }}
      ports:
        - port: {{ .egress.proxy.port | int }}
          protocol: TCP
    {{- end }}
  {{- end }}
{{- end -}}

{{- define "elf-team.policyPeer" -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ .namespace | quote }}
  podSelector:
    matchLabels:
      app: {{ .team | quote }}
{{- end -}}

{{/* The cluster's DNS, and the address that its node-local cache has by convention. */}}
{{- define "elf-team.egressDns" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
      podSelector:
        matchLabels:
          k8s-app: kube-dns
    - ipBlock:
        cidr: 169.254.20.10/32
  ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end -}}

{{/* The database: where elf.yaml says it is, otherwise its port alone, because its address stands in a Secret. */}}
{{- define "elf-team.egressStore" -}}
- ports:
    - port: {{ .port | int }}
      protocol: TCP
  {{- if or .namespace .cidrs }}
  to:
    {{- with .namespace }}
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ . | quote }}
    {{- end }}
    {{- range .cidrs }}
    - ipBlock:
        cidr: {{ . | quote }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* HTTPS to public addresses: not to private, shared, link-local and metadata ranges (RFC 1918, 6598, 3927, 4193, 4291). */}}
{{- define "elf-team.egressOpen" -}}
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except:
          - 10.0.0.0/8
          - 100.64.0.0/10
          - 127.0.0.0/8
          - 169.254.0.0/16
          - 172.16.0.0/12
          - 192.168.0.0/16
    - ipBlock:
        cidr: ::/0
        except:
          - ::1/128
          - fc00::/7
          - fe80::/10
  ports:
    - port: 443
      protocol: TCP
{{- end -}}
